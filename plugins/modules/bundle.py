# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: bundle
short_description: Write or verify a bundle for sites without internet
version_added: 0.1.0
description:
  - Writes the content of the controller's cache into one archive, with checksums, a bill of materials (CycloneDX) and
    all licence texts. The same cache gives the same bytes.
  - With O(state=verified), verifies the checksum of every file in an archive, and that this version of the collection
    can use the archive.
  - Runs on the controller, in Ansible's own process. Writing needs Go and npm, which find the licences of components.
requirements:
  - cyclonedx-python-lib and packageurl-python on the controller
  - to write, go and npm on the controller
author: kubescale founders (@kubescale)
options:
  file:
    description: The archive, a tar compressed with zstd.
    type: path
    required: true
  state:
    description:
      - V(present) writes the archive, unless it exists with the same content.
      - V(verified) reads the archive only.
    type: str
    choices: [present, verified]
    default: present
extends_documentation_fragment: [kubescale.fleet.artifacts, kubescale.fleet.attributes.changes]
"""

EXAMPLES = r"""
- name: Write a bundle
  kubescale.fleet.bundle:
    file: /media/carried/bundle.tar.zst

- name: Verify it
  kubescale.fleet.bundle:
    file: /media/carried/bundle.tar.zst
    state: verified
"""

RETURN = r"""
file:
  description: The archive's absolute path.
  type: str
  returned: success
sha256:
  description: The archive's checksum, in hex.
  type: str
  returned: when the archive is there
size:
  description: The archive's size in bytes.
  type: int
  returned: when the archive is there
"""
