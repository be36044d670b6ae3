"""podman 4 with its CNI back end, started as root on a machine with settings of its own.

Containers get a cgroup below the machine's name: runc, unlike crun, does not work with --cgroups=disabled. The limits are
this process's own (--ulimit=host), since raising them may be forbidden.
"""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, Final

from tests.cni.runtimes.engine import Container, Engine
from tests.cni.runtimes.machine import DEBIAN, program
from tests.cni.runtimes.root_file_system import PORT, SERVE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cni.runtimes.machine import Machine

SETTINGS: Final = """
[engine]
cgroup_manager = "cgroupfs"
conmon_path = ["{conmon}"]
events_logger = "none"
[engine.runtimes]
runc = ["{runc}"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
default_network = "{network}"
"""
POLICY: Final = {"default": [{"type": "insecureAcceptAnything"}]}


class Podman(Engine):
    """podman with the example for one machine as its only network."""

    network = "containers"
    example = "10-one-machine.conflist"

    def __init__(self, machine: Machine, root: Path) -> None:
        super().__init__(machine, root)
        text = SETTINGS.format(conmon=program("conmon"), runc=program("runc"), network=self.network)
        machine.write("/etc/containers/containers.conf", text)
        machine.write("/etc/containers/policy.json", json.dumps(POLICY))

    def podman(self, *arguments: str | Path) -> str:
        """Run podman to its end and give its stdout; raises machine.Failed."""
        environment = {"LD_LIBRARY_PATH": str(DEBIAN / "usr/lib" / f"{platform.machine()}-linux-gnu")}
        storage = ("--storage-driver=vfs", "--runtime=runc")
        return self.machine.run(program("podman"), *storage, *arguments, environment=environment)

    def probe(self) -> None:
        self.podman("run", "--rm", "--network=none", *self._flags(), "--rootfs", self.root, "/bin/busybox", "true")

    def _flags(self) -> tuple[str, ...]:
        return "--cgroups=no-conmon", f"--cgroup-parent=/{self.machine.name}", "--ulimit=host", "--cap-add=NET_RAW"

    def _start(self, name: str, publish: int) -> Container:
        ports = [f"--publish={publish}:{PORT}"] if publish else []
        self.podman("run", "--detach", f"--name={name}", *self._flags(), *ports, "--rootfs", self.root, *SERVE)
        return PodmanContainer(self, name)


class PodmanContainer(Container):
    """A container by its name."""

    def __init__(self, engine: Podman, name: str) -> None:
        self._podman = engine.podman
        self.name = name

    def run(self, applet: str, *arguments: str) -> str:
        return self._podman("exec", self.name, "/bin/busybox", applet, *arguments)

    def reported(self) -> set[str]:
        (network,) = json.loads(self._podman("container", "inspect", self.name))[0]["NetworkSettings"]["Networks"].values()
        return {network["IPAddress"], network["GlobalIPv6Address"]}

    def remove(self) -> None:
        self._podman("rm", "--force", "--time=0", self.name)
