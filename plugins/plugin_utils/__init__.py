# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Code of the controller, in rooms. As a package, pylint can follow imports from one room to another."""
