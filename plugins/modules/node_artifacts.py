# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
DOCUMENTATION = r"""
module: node_artifacts
short_description: Put binaries and images from the controller's cache on a machine
version_added: 0.1.0
description:
  - Installs binaries with the pinned checksum, and imports images into containerd's C(k8s.io) namespace.
  - Only what the machine lacks is transferred. Where the cache itself is mounted at C(/var/cache/kubescale), nothing is.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reports what would be installed and imported.
    support: full
options:
  binaries:
    description: Keys of C(machine_files) in C(files/artifacts.yml).
    type: list
    elements: str
    default: []
  images:
    description: Kinds of machines whose images to import; containerd must be running.
    type: list
    elements: str
    choices: [control_plane, worker]
    default: []
"""

EXAMPLES = r"""
- name: Install containerd and its parts
  kubescale.fleet.node_artifacts:
    binaries: [containerd, runc, cni_plugins]

- name: Import what a worker runs
  kubescale.fleet.node_artifacts:
    images: [worker]
"""

RETURN = r"""
installed:
  description: Paths of the binaries that were installed or replaced, or would be in check mode.
  type: list
  elements: str
  returned: success
imported:
  description: References of the images that were imported, or would be in check mode.
  type: list
  elements: str
  returned: success
"""

import hashlib
import json
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

MOUNTED_CACHE = "/var/cache/kubescale"
# What this module installed, and how the file looked then: saves reading half a gigabyte at each run.
RECORD = "/var/lib/kubescale/artifacts.json"


def file_digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1024 * 1024), b""):
            total.update(block)
    return total.hexdigest()


def look(path):
    """Return what tells a changed file from the one that was recorded."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def installed_digest(path, recorded):
    """Return the SHA-256 of an installed file, or None where there is none."""
    if not os.path.exists(path):
        return None
    if recorded and recorded["look"] == look(path):
        return recorded["sha256"]
    return file_digest(path)


def present_images(module):
    """Return the names of the images that containerd has."""
    _code, out, _err = module.run_command(["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"], check_rc=True)
    return set(out.split())


def main():
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "default": []},
            "images": {"type": "list", "elements": "dict", "default": []},
            "transferred": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        with open(RECORD, encoding="utf-8") as stream:
            record = json.load(stream)
    except FileNotFoundError:
        record = {"files": {}, "images": {}}
    before = json.dumps(record, sort_keys=True)

    def source_of(item):
        for candidate in (module.params["transferred"].get(item["source"]), os.path.join(MOUNTED_CACHE, item["source"])):
            if candidate and os.path.exists(candidate) and os.path.getsize(candidate) == item["size"]:
                return candidate
        return None

    files = [
        item
        for item in module.params["files"]
        if installed_digest(item["destination"], record["files"].get(item["destination"])) != item["sha256"]
    ]
    images = []
    if module.params["images"] and not (module.check_mode and module.get_bin_path("ctr") is None):
        present = present_images(module)
        images = [
            item
            for item in module.params["images"]
            if item["reference"] not in present or record["images"].get(item["reference"]) != item["manifest"]
        ]
    elif module.params["images"]:
        images = module.params["images"]
    result = {
        "changed": bool(files or images),
        "installed": [item["destination"] for item in files],
        "imported": [item["reference"] for item in images],
        "diff": {
            "before": "",
            "after": "".join(f"{name}\n" for name in [item["destination"] for item in files] + [item["reference"] for item in images]),
        },
    }
    lacking = [item["source"] for item in files + images if source_of(item) is None]
    if module.check_mode:
        module.exit_json(**result)
    if lacking:
        if module.params["transferred"]:
            module.fail_json(msg=f"Transferred files have another size than recorded in the cache: {', '.join(lacking)}. Is its disk full?")
        module.exit_json(changed=False, lacking=lacking)

    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    for item in files:
        destination = item["destination"]
        os.makedirs(os.path.dirname(destination), exist_ok=True)
        temporary = f"{destination}.new"
        shutil.copyfile(source_of(item), temporary)
        if file_digest(temporary) != item["sha256"]:
            os.unlink(temporary)
            module.fail_json(msg=f"{destination}: the copy's checksum is not {item['sha256']}. The cache or the way to the machine is damaged.")
        os.chmod(temporary, 0o755)
        # A running program's file cannot be written, but it can be replaced.
        os.replace(temporary, destination)
    for item in module.params["files"]:
        record["files"][item["destination"]] = {"sha256": item["sha256"], "look": look(item["destination"])}
    for item in images:
        # Unpacking waits until a pod needs the image: a machine seldom runs all of them.
        command = ["ctr", "--namespace", "k8s.io", "images", "import", "--no-unpack", source_of(item)]
        module.run_command(command, check_rc=True)
        record["images"][item["reference"]] = item["manifest"]
    if json.dumps(record, sort_keys=True) != before:
        temporary = f"{RECORD}.new"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(record, stream)
        os.replace(temporary, RECORD)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
