#!/usr/bin/env bash
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# From bare machines to the whole chain, as one would write it by hand for this one cluster: what the roles do, without
# Ansible. bench.py starts it on fresh machines and looks from outside when things are ready.
#
# Usage: shell.sh WORK KUBECTL. WORK is a folder by bench.py with
#   version                         of Kubernetes
#   binaries                        "sha256 file destination" of each binary of a node, files below the cache
#   images.first images.later       image archives of the control plane: needed by kubeadm, and the others
#   images.worker                   image archives of a worker
#   network.json crds.json objects.json resources.json
#                                   the roles' own objects: namespaces and flannel; CRDs; all others; custom resources.
#                                   Certificates are placeholders in them, such as base64 of @metrics-server.crt@.
set -euo pipefail
cd "$(dirname "$0")"
work=$1
kubectl=$2
control_plane=bench-cp1
workers=(bench-w1 bench-w2)
declare -A address=([bench-cp1]=10.89.80.11 [bench-w1]=10.89.80.12 [bench-w2]=10.89.80.13)
token=$(od -An -N11 -tx1 /dev/urandom | tr -d ' \n' | sed 's/^.\{6\}/&./')
export KUBECONFIG=$work/kubeconfig
rm -rf "$KUBECONFIG" "$work/cache"
trap 'jobs -p | xargs --no-run-if-empty kill 2> /dev/null || true' EXIT

say() { printf '%5d s  %s\n' "$SECONDS" "$1"; }

wait_all() {
  local pid
  for pid in "$@"; do wait "$pid"; done
}

# Prepares a machine: its name, image archives before and image archives after it says "prepared".
prepare() {
  {
    printf 'address=%q\nbinaries=%q\nfirst=%q\nlater=%q\n' "${address[$1]}" "$(cat "$work/binaries")" "$2" "$3"
    cat shell_node.sh
  } | podman exec --interactive "$1" bash -s
}

# Runs kubeadm on a machine with the configuration from standard input: its name, the subcommand.
kubeadm() {
  podman exec --interactive "$1" sh -c "umask 077; cat > /run/kubeadm.yaml; exec kubeadm $2 --config=/run/kubeadm.yaml" \
    > "$work/kubeadm-$1.log"
}

registration() {
  cat << END
nodeRegistration:
  name: $1
  criSocket: unix:///run/containerd/containerd.sock
  ignorePreflightErrors: [Swap, SystemVerification]
END
}

init() {
  kubeadm "$control_plane" init << END
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens:
  - token: $token
    ttl: 15m
    usages: [signing, authentication]
    groups: [system:bootstrappers:kubeadm:default-node-token]
localAPIEndpoint: {advertiseAddress: ${address[$control_plane]}, bindPort: 6443}
$(registration "$control_plane")
  # kube-proxy's and CoreDNS's are still being imported.
  imagePullPolicy: Never
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: bench
kubernetesVersion: v$(cat "$work/version")
controlPlaneEndpoint: ${address[$control_plane]}:6443
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
apiServer:
  extraArgs:
    - {name: enable-aggregator-routing, value: "true"}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {maxPerCore: 0}
END
}

join() {
  kubeadm "$1" join << END
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken:
    apiServerEndpoint: ${address[$control_plane]}:6443
    token: $token
    caCertHashes: ["sha256:$authority"]
$(registration "$1")
END
}

kubectl() { "$kubectl" --cache-dir="$work/cache" "$@"; }
apply() { kubectl apply --server-side --filename "$1" > /dev/null; }

# Approves the requests of our machines for serving certificates until each has one.
approve() {
  local columns=:.metadata.name,:.spec.username,:.status.conditions[0].type,:.status.certificate
  local name user state certificate wanted
  wanted=" $control_plane ${workers[*]} "
  while read -r name user state certificate; do
    case $wanted in *" ${user#system:node:} "*) ;; *) continue ;; esac
    if [ "$certificate" != '<none>' ]; then
      wanted=${wanted/ ${user#system:node:} / }
    elif [ "$state" = '<none>' ]; then
      kubectl certificate approve "$name" > /dev/null
    fi
    if [ "$wanted" = ' ' ]; then
      kill $!
      return
    fi
  done < <(exec "$kubectl" --cache-dir="$work/cache" get csr --watch --no-headers --output "custom-columns=$columns" \
    --field-selector spec.signerName=kubernetes.io/kubelet-serving)
  return 1
}

# Makes a key, and a certificate for a Service, signed where the CA's key is: component, namespace.
certificate() {
  local names="DNS:$1.$2.svc,DNS:$1.$2.svc.cluster.local,DNS:$1.$2,DNS:$1"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1.$2.svc" \
    -addext "subjectAltName=$names" -addext extendedKeyUsage=serverAuth -keyout "$work/$1.key" 2> /dev/null |
    podman exec --interactive "$control_plane" openssl x509 -req -sha256 -copy_extensions copyall -days 365 \
      -CA /etc/kubernetes/pki/ca.crt -CAkey /etc/kubernetes/pki/ca.key 2> /dev/null > "$work/$1.crt"
}

# Says to sed what a placeholder stands for.
placeholder() { printf 's|%s|%s|g\n' "$(printf '@%s@' "$1" | base64 --wrap=0)" "$(base64 --wrap=0 "$work/$1")"; }

# All machines at once. The control plane goes on as soon as it has what kubeadm needs.
images=$(cat "$work/images.worker")
preparing=()
for worker in "${workers[@]}"; do
  prepare "$worker" "$images" '' > /dev/null &
  preparing+=($!)
done
coproc first { prepare "$control_plane" "$(cat "$work/images.first")" "$(cat "$work/images.later")"; }
later=$first_PID
read -r _ <&"${first[0]}"
say "control plane prepared"
init
podman exec "$control_plane" cat /etc/kubernetes/admin.conf > "$KUBECONFIG"
say "control plane made"

# What needs no worker goes on beside the joining of workers.
approve &
approving=$!
apply "$work/network.json"
apply "$work/crds.json" &
applying=$!
podman exec "$control_plane" cat /etc/kubernetes/pki/ca.crt > "$work/ca.crt"
authority=$(openssl x509 -in "$work/ca.crt" -pubkey -noout | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1)
wait_all "${preparing[@]}"
say "workers prepared"
joining=()
for worker in "${workers[@]}"; do
  join "$worker" &
  joining+=($!)
done
certificate metrics-server kube-system
certificate prometheus-adapter custom-metrics
for name in {metrics-server,prometheus-adapter}.{crt,key} ca.crt; do placeholder "$name"; done > "$work/certificates.sed"
sed --file="$work/certificates.sed" "$work/objects.json" > "$work/objects.signed.json"
apply "$work/objects.signed.json"
wait "$applying"
kubectl wait --for=condition=Established --filename "$work/crds.json" --timeout=60s > /dev/null
apply "$work/resources.json"
say "everything applied"
wait_all "${joining[@]}" "$approving" "$later"
ready() { kubectl wait --timeout=300s "$@" > /dev/null; }
ready --for=condition=Ready "node/$control_plane" "${workers[@]/#/node/}"
say "all nodes ready"
ready --for=condition=Available --all-namespaces --all deployment
ready --for=condition=Available --namespace monitoring prometheus/k8s alertmanager/main
for daemons in kube-system/kube-flannel-ds kube-system/kube-proxy node-exporter/node-exporter; do
  kubectl rollout status --timeout=300s --namespace "${daemons%/*}" "daemonset/${daemons#*/}" > /dev/null
done
ready --for=condition=Available --all apiservice
ready --for=condition=ScalingActive --namespace demo horizontalpodautoscaler/demo-app
say "pipeline ready"
