"""Container runtimes as they are, on our plugins: containerd, podman, libcni's cnitool."""
