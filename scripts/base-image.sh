#!/usr/bin/env bash
# base-image.sh FILE.tar: makes a Debian root file system for the Dockerfile's BASE from this machine's own apt
# sources, where no image registry is at hand. Root. `podman import`, `docker import` and scripts/build-image.sh take it.
set -euo pipefail

target=${1:?usage: base-image.sh FILE.tar}
# shellcheck disable=SC1091
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mapfile -t sources < <(find /etc/apt -maxdepth 2 \( -name '*.list' -o -name '*.sources' \) -size +0)

mkdir -p "$(dirname "$target")"
mmdebstrap --quiet --variant=apt --format=tar \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$target.partial" "${sources[@]}"
mv "$target.partial" "$target"
