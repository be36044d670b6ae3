"""libcni's cnitool: network namespaces in the place of containers, everything else as runtimes do it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from tests.cni import plugins
from tests.cni.runtimes.engine import Container, Engine
from tests.cni.runtimes.root_file_system import PORT, SERVE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cni.runtimes.machine import Machine

NAMESPACE: Final = "/run/netns/{}"


def cnitool(machine: Machine, verb: str, network: str, name: str, **capabilities: Any) -> str:  # noqa: ANN401 - whatever a capability takes
    """Run cnitool on a network of /etc/cni/net.d and a namespace by its name; raises machine.Failed with the plugin's words."""
    environment = {"CNI_PATH": "/opt/cni/bin", **({"CAP_ARGS": json.dumps(capabilities)} if capabilities else {})}
    return machine.run(*plugins.built("cnitool"), verb, network, NAMESPACE.format(name), environment=environment)


class Attached(Container):
    """A namespace with a server inside."""

    def __init__(self, engine: Engine, name: str, ports: list[dict[str, Any]]) -> None:
        self._machine, self._network, self.name = engine.machine, engine.network, name
        self._enter = ("ip", "netns", "exec", name, "chroot", engine.root)
        self._capabilities = {"portMappings": ports} if ports else {}
        self._machine.run("ip", "netns", "add", name)
        self._result = json.loads(cnitool(self._machine, "add", self._network, name, **self._capabilities))
        self._machine.start(*self._enter, *SERVE)

    def run(self, applet: str, *arguments: str) -> str:
        return self._machine.run(*self._enter, "/bin/busybox", applet, *arguments)

    def reported(self) -> set[str]:
        return {ip["address"].partition("/")[0] for ip in self._result["ips"]}

    @property
    def container_id(self) -> str:
        """What cnitool calls the container, after its namespace's path."""
        return f"cnitool-{hashlib.sha512(NAMESPACE.format(self.name).encode()).hexdigest()[:20]}"

    def check(self) -> None:
        """Have the plugins check the attachment; raises machine.Failed."""
        cnitool(self._machine, "check", self._network, self.name, **self._capabilities)

    def remove(self) -> None:
        cnitool(self._machine, "del", self._network, self.name, **self._capabilities)
        self._machine.run("sh", "-c", f"ip netns pids {self.name} | xargs --no-run-if-empty kill -KILL")
        self._machine.run("ip", "netns", "del", self.name)


class Cnitool(Engine):
    """cnitool with the example for a cluster's node, or with that of the runtime in whose place it is."""

    network = "pods"
    example = "10-cluster-node.conflist"

    def __init__(self, machine: Machine, root: Path, instead_of: type[Engine] | None = None) -> None:
        super().__init__(machine, root)
        if instead_of:
            self.network, self.example = instead_of.network, instead_of.example

    def start(self, publish: int = 0) -> Attached:
        container = super().start(publish)
        assert isinstance(container, Attached)
        return container

    def probe(self) -> None:
        """Nothing can refuse: what is entered is a namespace."""

    def _start(self, name: str, publish: int) -> Attached:
        return Attached(self, name, [{"hostPort": publish, "containerPort": PORT, "protocol": "tcp"}] if publish else [])
