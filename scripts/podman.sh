#!/usr/bin/env bash
# Runs podman: the one in PATH, else the one that scripts/debian-tools.sh unpacked. Images, containers and its own
# state stay in .cache/podman, so that nothing of this machine's is touched. Root.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
home=$here/.cache/podman
debian=$here/.cache/debian
podman=$(command -v podman || echo "$debian/usr/bin/podman")
if [ ! -x "$podman" ]; then
    echo "podman is neither installed nor unpacked: scripts/debian-tools.sh does it on Debian" >&2
    exit 1
fi
mkdir -p "$home/.config/containers"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' > "$home/.config/containers/policy.json"
echo '' > "$home/registries.conf"

# Where a kernel or its policy forbids mounting overlays, whole copies do: slower, same result.
driver=vfs
probe=$home/probe
mkdir -p "$probe"/{lower,upper,work,merged}
if unshare --mount mount -t overlay overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" "$probe/merged" 2>/dev/null; then
    driver=overlay
fi
cat > "$home/containers.conf" <<END
[engine]
cgroup_manager = "cgroupfs"
conmon_path = ["$debian/usr/bin/conmon", "/usr/bin/conmon", "/usr/libexec/podman/conmon"]
events_logger = "none"
tmp_dir = "$home/tmp"
[engine.runtimes]
runc = ["$debian/usr/sbin/runc", "/usr/bin/runc", "/usr/sbin/runc"]
END
export HOME=$home CONTAINERS_CONF=$home/containers.conf CONTAINERS_REGISTRIES_CONF=$home/registries.conf
export LD_LIBRARY_PATH=$debian/usr/lib/$(uname -m)-linux-gnu DISABLE_HC_SYSTEMD=true
exec "$podman" --root "$home/storage" --runroot "$home/run" --storage-driver "$driver" --runtime runc "$@"
