#!/usr/bin/env bash
# Builds the binaries of Kubernetes that tests run, or those of them that are named as arguments, from
# tests/cluster/go into .cache/kubernetes/VERSION. What KUBEBUILDER_ASSETS holds is not built. Once: five minutes on
# two cores from nothing. Without Go, or without its modules, it says so and goes on.
# Only when it is named: kube-proxy-1.25, from bench/subjects/kube-proxy-1.25, which measurements compare with.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ne 0 ] || set -- etcd etcdctl etcdutl kube-apiserver kube-controller-manager kube-proxy kubectl

# With -v the compiler names each package that it takes up; any other line is worth reading.
progress() {
    local line modules=0 packages=0
    while read -r line; do case $line in
        "go: downloading "*) (( ++modules % 50 )) || echo "$1: $modules modules fetched" ;;
        *[\ :]*) echo "$1: $line" ;;
        *) (( ++packages % 250 )) || echo "$1: $packages packages" ;;
    esac; done
}

for name; do
    module=tests/cluster/go program=$name assets=${KUBEBUILDER_ASSETS:-/nonexistent}
    case $name in
        etcd) package=go.etcd.io/etcd/server/v3 ;;
        etcd*) package=go.etcd.io/etcd/$name/v3 ;;
        kube-proxy-1.25) module=bench/subjects/$name program=kube-proxy package=k8s.io/kubernetes/cmd/kube-proxy assets=/nonexistent ;;
        *) package=k8s.io/kubernetes/cmd/$name ;;
    esac
    version=$(sed -nE 's|^(require )?\s*k8s.io/kubernetes (v\S+)$|\2|p' "$module/go.mod")
    target="$PWD/.cache/kubernetes/$version"
    if [ -x "$target/$program" ] || [ -x "$assets/$program" ]; then continue; fi
    command -v go >/dev/null || { echo "no Go here: $name is not built, what needs it is skipped" && continue; }
    mkdir -p "$target"
    echo "building $name, once: up to five minutes"
    CGO_ENABLED=0 go build -C "$module" -v -trimpath -o "$target/.$program" \
        -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" "$package" 2>&1 | progress "$name" \
        && mv "$target/.$program" "$target/$program" || echo "$name could not be built: what needs it is skipped"
done
