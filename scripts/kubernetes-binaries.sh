#!/usr/bin/env bash
# Builds the binaries of Kubernetes that tests run, or those of them that are named as arguments, from
# tests/cluster/go into .cache/kubernetes/VERSION. What KUBEBUILDER_ASSETS holds is not built. Once: five minutes on
# two cores from nothing. Without Go, or without its modules, it says so and goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

module=tests/cluster/go
version=$(sed -n 's|^\tk8s.io/kubernetes \(v.*\)|\1|p' "$module/go.mod")
target="$PWD/.cache/kubernetes/$version"
[ $# -ne 0 ] || set -- etcd etcdctl etcdutl kube-apiserver kube-controller-manager kube-proxy kubectl
mkdir -p "$target"

# With -v the compiler names each package that it takes up; any other line is worth reading.
progress() {
    local line modules=0 packages=0
    while read -r line; do
        case $line in
            "go: downloading "*) (( ++modules % 50 )) || echo "$1: $modules modules fetched" ;;
            *[\ :]*) echo "$1: $line" ;;
            *) (( ++packages % 250 )) || echo "$1: $packages packages" ;;
        esac
    done
}

for name; do
    if [ -x "$target/$name" ] || [ -x "${KUBEBUILDER_ASSETS:-/nonexistent}/$name" ]; then continue; fi
    if ! command -v go >/dev/null; then
        echo "no Go here: $name is not built, tests that need it are skipped"
        continue
    fi
    case $name in etcd) package=go.etcd.io/etcd/server/v3 ;; etcd*) package=go.etcd.io/etcd/$name/v3 ;; *) package=k8s.io/kubernetes/cmd/$name ;; esac
    echo "building $name, once: up to five minutes"
    if CGO_ENABLED=0 go build -C "$module" -v -trimpath -o "$target/.$name" \
        -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" "$package" 2>&1 | progress "$name"; then
        mv "$target/.$name" "$target/$name"
    else
        echo "$name could not be built: tests that need it are skipped"
    fi
done
