#!/bin/sh
# Makes a kind node of a plain Debian root file system. Runs in a container of it that is committed afterwards.
#   node_image.sh CACHE NODE_FILES KUBERNETES_VERSION PAUSE_IMAGE {SOURCE DESTINATION}... -- IMAGE_ARCHIVE...
# CACHE is where the artifacts cache is mounted; NODE_FILES (kind's own), SOURCE and IMAGE_ARCHIVE are paths in it.
set -eu
cache=$1 node_files=$cache/$2 kubernetes=$3 pause=$4
shift 4

# A Go module carries no modes of files, and its folders cannot be written to.
for folder in etc kind usr; do cp --recursive --no-preserve=mode "$node_files/$folder" /; done
chmod 0755 /usr/local/bin/entrypoint /kind/bin/*.sh
rm /usr/local/bin/clean-install

while [ "$1" != -- ]; do
  install -D --mode=0755 "$cache/$1" "$2"
  shift 2
done
shift
# kind's unit names this place.
ln --symbolic /usr/local/bin/kubelet /usr/bin/kubelet

echo "v$kubernetes" > /kind/version
sed --in-place "s|^\( *sandbox_image\) = .*|\1 = \"$pause\"|" /etc/containerd/config.toml
grep --quiet --fixed-strings "= \"$pause\"" /etc/containerd/config.toml
# What every container starts from. With limits of its own it would get containerd's, which this host may not grant. kind's images add a
# hook here that hides the host's product name from pods; it needs jq, and nothing here looks at that name.
ctr oci spec | python3 -c '
import json, sys
spec = json.load(sys.stdin)
del spec["process"]["rlimits"]
json.dump(spec, sys.stdout)
' > /etc/containerd/cri-base.json

mkdir --parents /etc/kubernetes/manifests
systemctl enable containerd.service kubelet.service undo-mount-hacks.service
# It registers formats with the kernel, which belongs to the host.
systemctl mask systemd-binfmt.service
# Kernel messages are the host's.
echo ReadKMsg=no >> /etc/systemd/journald.conf

containerd < /dev/null > /tmp/containerd.log 2>&1 &
containerd=$!
until ctr version > /dev/null 2>&1; do
  kill -0 "$containerd" || { cat /tmp/containerd.log >&2; exit 1; }
done
for archive; do ctr --namespace k8s.io images import --local --no-unpack "$cache/$archive"; done
kill "$containerd"
wait "$containerd" || true
rm -rf /run/containerd /tmp/containerd.log
