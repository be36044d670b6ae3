"""containerd as a kubelet uses it: pods over CRI, the container runtime interface.

Owns the messages, by their numbers in api.proto of https://github.com/kubernetes/cri-api (runtime.v1). The daemon executes the
plugins, loopback first, hands them the pod's name and ports, and detaches a pod by the namespace that it has made for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.cni.runtimes import grpc, root_file_system
from tests.cni.runtimes.containerd import Containerd
from tests.cni.runtimes.engine import Container, Engine
from tests.cni.runtimes.grpc import Fields, Refused, encode
from tests.cni.runtimes.machine import Failed, Machine
from tests.cni.runtimes.root_file_system import IMAGE, PORT, SERVE

if TYPE_CHECKING:
    from pathlib import Path

SERVICE: Final = "/runtime.v1.RuntimeService/"
NODE: Final = 2
"""NamespaceMode: the node's own network."""
EXEC_SECONDS: Final = 30


class Cri(Engine):
    """containerd's CRI with the example for a cluster's node."""

    network = "pods"
    example = "10-cluster-node.conflist"

    def __init__(self, machine: Machine, root: Path) -> None:
        super().__init__(machine, root)
        self.daemon = Containerd(machine)
        image = root_file_system.archive(root, root.with_suffix(".tar"))
        machine.run("ctr", "--namespace=k8s.io", "images", "import", "--snapshotter=native", image)

    def call(self, method: str, request: bytes) -> Fields:
        """Call the runtime; raises Failed with the end of its log."""
        try:
            return grpc.call(self.daemon.socket, SERVICE + method, request)
        except Refused as refused:
            raise Failed(f"{refused}\n{self.daemon.log()[-2000:]}") from None

    def probe(self) -> None:
        Pod(self, "probe", 0, on_node=True).remove()

    def _start(self, name: str, publish: int) -> Pod:
        return Pod(self, name, publish)


class Pod(Container):
    """A pod and its only container, which serves."""

    def __init__(self, engine: Cri, name: str, publish: int, *, on_node: bool = False) -> None:
        self._call = engine.call
        metadata = encode({1: name, 2: f"uid-{name}", 3: "default"})
        ports = [encode({2: PORT, 3: publish})] if publish else []
        security = encode({1: encode({1: NODE})}) if on_node else b""
        linux = encode({1: f"/{engine.machine.name}", 2: security})
        config = encode({1: metadata, 2: "" if on_node else name, 5: ports, 8: linux})
        self._sandbox = _text(self._call("RunPodSandbox", encode({1: config})), 1)
        server = encode({1: encode({1: "server"}), 2: encode({1: IMAGE}), 3: [word.encode() for word in SERVE]})
        self._container = _text(self._call("CreateContainer", encode({1: self._sandbox, 2: server, 3: config})), 1)
        self._call("StartContainer", encode({1: self._container}))

    def run(self, applet: str, *arguments: str) -> str:
        argv = [word.encode() for word in ("/bin/busybox", applet, *arguments)]
        answer = self._call("ExecSync", encode({1: self._container, 2: argv, 3: EXEC_SECONDS}))
        if answer.get(3, [0]) != [0]:
            raise Failed(f"{applet}: exit code {answer[3]}: {_text(answer, 2)}")
        return _text(answer, 1)

    def reported(self) -> set[str]:
        status = grpc.decode(_bytes(self._call("PodSandboxStatus", encode({1: self._sandbox})), 1))
        network = grpc.decode(_bytes(status, 5))
        others = [grpc.decode(each) for each in network.get(2, []) if isinstance(each, bytes)]
        return {_text(network, 1), *(_text(each, 1) for each in others)}

    def remove(self) -> None:
        self._call("StopPodSandbox", encode({1: self._sandbox}))
        self._call("RemovePodSandbox", encode({1: self._sandbox}))


def _bytes(fields: Fields, number: int) -> bytes:
    (value,) = fields.get(number, [b""])
    assert isinstance(value, bytes)
    return value


def _text(fields: Fields, number: int) -> str:
    return _bytes(fields, number).decode()
