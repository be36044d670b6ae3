#!/usr/bin/env bash
# build-image.sh TAG [BASE]: builds the Dockerfile with docker or podman (BUILDER says which; default: the first that
# works here, else scripts/podman.sh). BASE: another base image, or the tar file of one. pip in the build uses this
# machine's index, proxy and certificates; they are handed over as secrets, and no layer keeps them.
set -euo pipefail

tag=${1:?usage: build-image.sh TAG [BASE]} base=${2:-}
here=$(cd "$(dirname "$0")/.." && pwd)
builder=${BUILDER:-$here/scripts/podman.sh}
for name in podman docker; do
    if [ -z "${BUILDER:-}" ] && "$name" info >/dev/null 2>&1; then builder=$name; fi
done

secrets=$(mktemp -d)
trap 'rm -r "$secrets"' EXIT
# Lines like global.index-url='...'; what the environment says (:env:) stands above and wins.
pip() { { python3 -m pip config list || true; } 2>/dev/null | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | head -n 1; }
echo '[global]' > "$secrets/pip"
for key in index-url extra-index-url trusted-host proxy timeout retries; do
    value=$(pip "$key")
    [ -z "$value" ] || echo "$key = $value" >> "$secrets/pip"
done
arguments=(--secret "id=pip,src=$secrets/pip")
authorities=$(pip cert)
if [ -n "$authorities" ]; then
    echo 'cert = /run/secrets/ca' >> "$secrets/pip"
    arguments+=(--secret "id=ca,src=$authorities")
fi
if [ -f "$base" ]; then
    imported=localhost/uproxy-base:$(sha256sum "$base" | cut -c -12)
    "$builder" image inspect "$imported" >/dev/null 2>&1 || "$builder" import "$base" "$imported" >/dev/null
    base=$imported
fi
[ -z "$base" ] || arguments+=(--build-arg "BASE=$base")
# docker has a format of its own and keeps layers by itself; the OCI's has no HEALTHCHECK.
[ "$(basename "$builder")" = docker ] || arguments+=(--format docker --isolation chroot --network host --layers)
revision=$(git -C "$here" rev-parse HEAD 2>/dev/null || true)
"$builder" build "${arguments[@]}" --build-arg "REVISION=$revision" --tag "$tag" "$here"
