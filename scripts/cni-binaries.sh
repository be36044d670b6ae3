#!/usr/bin/env bash
# Builds the reference CNI plugins that tests and benchmarks compare with, and libcni's cnitool, or those of them that
# are named as arguments, from tests/cni/go into .cache/cni/VERSION of the plugins. Once: two minutes on two cores from
# nothing. Without Go, or without its modules, it says so and goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

module=tests/cni/go
source=github.com/containernetworking
version=$(sed -n "s|^\t$source/plugins \(v[^ ]*\).*|\1|p" "$module/go.mod")
target="$PWD/.cache/cni/$version"
[ $# -ne 0 ] || set -- bandwidth bridge cnitool firewall host-local loopback portmap tuning
mkdir -p "$target"

for name; do
    [ ! -x "$target/$name" ] || continue
    if ! command -v go >/dev/null; then
        echo "no Go here: $name is not built, tests that need it are skipped"
        continue
    fi
    case $name in
        cnitool) package=cni/cnitool ;;
        bridge | loopback) package=plugins/plugins/main/$name ;;
        host-local) package=plugins/plugins/ipam/$name ;;
        *) package=plugins/plugins/meta/$name ;;
    esac
    echo "building $name $version, once"
    if CGO_ENABLED=0 go build -C "$module" -trimpath -o "$target/.$name" \
        -ldflags "-s -w -X $source/plugins/pkg/utils/buildversion.BuildVersion=$version" "$source/$package"; then
        mv "$target/.$name" "$target/$name"
    else
        echo "$name could not be built: tests that need it are skipped"
    fi
done
