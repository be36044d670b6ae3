"""containerd on a machine, and its own client ctr, which executes the plugins itself (`ctr run --cni`).

Owns the daemon: its folders are the machine's usual ones in memory, its snapshots plain copies, since mounting overlays
may be forbidden. A container of ctr runs in the foreground: its end is when ctr detaches it, by the namespace of a process
that is gone.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from tests.cni.runtimes.engine import Container, Engine
from tests.cni.runtimes.machine import SECONDS, Failed, Machine, program
from tests.cni.runtimes.root_file_system import SERVE
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: Final = "/etc/containerd/config.toml"
SOCKET: Final = "/run/containerd/containerd.sock"
LOG: Final = "/run/containerd.log"
SETTINGS: Final = """
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "localhost/small:1"
    disable_apparmor = true
    restrict_oom_score_adj = true
    stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
"""For cri.py. ctr takes none of it."""


class Containerd:
    """The daemon; it ends with the machine, as its shims do."""

    def __init__(self, machine: Machine) -> None:
        machine.write(CONFIG, SETTINGS)
        self._machine = machine
        machine.start("sh", "-c", f"exec {program('containerd')} >{LOG} 2>&1")
        eventually(lambda: "successfully booted" in self.log(), within=SECONDS)

    @property
    def socket(self) -> str:
        """Where it is reached from here."""
        return f"{self._machine.root}{SOCKET}"

    def log(self) -> str:
        """Give all that it has written."""
        path = self._machine.root / LOG.lstrip("/")
        return path.read_text(encoding="utf-8") if path.exists() else ""


class Ctr(Engine):
    """ctr with the example for a cluster's node."""

    network = "pods"
    example = "10-cluster-node.conflist"

    def __init__(self, machine: Machine, root: Path) -> None:
        super().__init__(machine, root)
        self.daemon = Containerd(machine)

    def probe(self) -> None:
        self.machine.run(*self.command("probe", "/bin/busybox", "true"))

    def command(self, name: str, *argv: str, options: tuple[str, ...] = ()) -> tuple[str | Path, ...]:
        """Give the command that is a container until its end."""
        cgroup = f"--cgroup=/{self.machine.name}/{name}"
        return "ctr", "run", "--rm", cgroup, *options, "--rootfs", self.root, name, *argv

    def _start(self, name: str, publish: int) -> Container:
        assert not publish, "ctr hands no ports to plugins"
        return CtrContainer(self, name)


class CtrContainer(Container):
    """A container, and the ctr that waits for its end."""

    def __init__(self, engine: Ctr, name: str) -> None:
        self._machine = engine.machine
        self.name = name
        self._execs = 0
        self._ctr = self._machine.start(*engine.command(name, *SERVE, options=("--cni",)))
        deadline = time.monotonic() + SECONDS
        while not re.search(rf"^{name}\s.*RUNNING", self._machine.run("ctr", "task", "list"), re.MULTILINE):
            if self._ctr.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"ctr run: {self._ctr.communicate()[0]}")

    def run(self, applet: str, *arguments: str) -> str:
        self._execs += 1
        return self._machine.run("ctr", "task", "exec", f"--exec-id=e{self._execs}", self.name, "/bin/busybox", applet, *arguments)

    def reported(self) -> set[str]:
        raise NotImplementedError("ctr tells nobody")

    def remove(self) -> None:
        self._machine.run("ctr", "task", "kill", "--signal=SIGKILL", self.name)
        said, _ = self._ctr.communicate(timeout=SECONDS)
        assert self._ctr.returncode == 128 + 9, said
