# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# One bare machine becomes ready for kubeadm. Runs on the machine; shell.sh puts its variables before it:
#   address   IPv4 address of the machine
#   binaries  lines "sha256 file destination", files below the cache
#   first     image archives that must be there before this ends, as paths below the cache
#   later     image archives that are imported after "prepared" was said
set -euo pipefail
cache=/var/cache/kubescale

mkdir -p /etc/containerd /etc/kubescale/kubelet.d /opt/cni/bin /usr/local/sbin
cat > /etc/modules-load.d/kubescale.conf <<'END'
overlay
br_netfilter
END
cat > /etc/sysctl.d/90-kubescale.conf <<'END'
net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
END
cat > /etc/containerd/config.toml <<'END'
version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = 'registry.k8s.io/pause:3.10.2'

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '/etc/containerd/certs.d'

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/opt/cni/bin']
conf_dir = '/etc/cni/net.d'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '/usr/local/sbin/runc'
SystemdCgroup = true
END
cat > /etc/systemd/system/containerd.service <<'END'
[Unit]
Description=containerd container runtime
After=network.target dbus.service

[Service]
Type=notify
ExecStartPre=/bin/mount --make-rshared /
ExecStart=/usr/local/bin/containerd
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=0

[Install]
WantedBy=multi-user.target
END
cat > /etc/systemd/system/kubelet.service <<END
[Unit]
Description=Kubernetes node agent
Wants=network-online.target containerd.service
After=network-online.target containerd.service
StartLimitIntervalSec=0

[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\
  --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml --config-dir=/etc/kubescale/kubelet.d \\
  --node-ip=$address \$KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=2
TasksMax=infinity

[Install]
WantedBy=multi-user.target
END
{
  cat <<'END'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
serverTLSBootstrap: true
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%, imagefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
END
  [ -e /sys/fs/cgroup/cgroup.controllers ] || echo 'failCgroupV1: false'
} > /etc/kubescale/kubelet.d/10-node.conf
modprobe --all --quiet overlay br_netfilter || true
# Not the bridge's settings where the host has no such module: a container cannot load it.
sysctl --quiet --ignore --load /etc/sysctl.d/90-kubescale.conf

while read -r _ file destination; do
  cp "$cache/$file" "$destination"
  chmod 0755 "$destination"
done <<< "$binaries"
while read -r sum _ destination; do echo "$sum  $destination"; done <<< "$binaries" | sha256sum --check --quiet

systemctl daemon-reload
systemctl enable --quiet --now containerd.service
systemctl enable --quiet kubelet.service

export CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=true
import() { xargs --no-run-if-empty -I{} ctr --namespace k8s.io images import --local --no-unpack "$cache/{}" > /dev/null; }
printf '%s' "$first" | import
echo prepared
printf '%s' "$later" | import
