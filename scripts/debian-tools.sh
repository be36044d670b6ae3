#!/usr/bin/env bash
# As root on Debian: installs the plain tools that tests need, and unpacks into .cache/debian, where tests and benchmarks
# find them, servers that would start by themselves when installed, container runtimes and CNI plugins. Elsewhere: names what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=(buildah ca-certificates faketime gcc iproute2 iptables iputils-ping kmod libc6-dev mmdebstrap nftables procps python3-venv)
servers=(busybox-static containerd containernetworking-plugins etcd-client etcd-server haproxy libnginx-mod-stream nginx-light podman runc strace systemd)
cache="$PWD/.cache/debian"

missing() { for each; do dpkg-query -Wf '${db:Status-Status}\n' "$each" 2>/dev/null | grep -qx installed || echo "$each"; done; }
apt() { DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet --yes "$@"; }

if ! command -v apt-get >/dev/null; then
    echo "not Debian: nftables, iproute2, procps, faketime and etcd are yours to install" >&2
    exit
fi
mapfile -t wanted < <(missing "${tools[@]}")
mapfile -t unpack < <([ "$(cat "$cache/done" 2>/dev/null)" = "${servers[*]}" ] || missing "${servers[@]}")
[ ${#wanted[@]} -eq 0 ] && [ ${#unpack[@]} -eq 0 ] && exit
if [ "$(id -u)" -ne 0 ]; then
    echo "missing, and only root can install them: ${wanted[*]} ${unpack[*]}" >&2
    exit
fi
apt update
[ ${#wanted[@]} -eq 0 ] || apt --no-install-recommends install "${wanted[@]}" >/dev/null
if [ ${#unpack[@]} -ne 0 ]; then
    mkdir -p "$cache/archives/partial"
    apt --no-install-recommends --download-only -o Dir::Cache::archives="$cache/archives" install "${unpack[@]}" >/dev/null
    for archive in "$cache"/archives/*.deb; do dpkg-deb --extract "$archive" "$cache"; done
    rm -r "$cache/archives"
    echo "${servers[*]}" >"$cache/done"
fi
