"""The network and the control plane of a measurement: one API server, and a node of its own for each proxy.

    uproxy 10.77.1.2 ---- 10.77.1.1 plane 10.77.2.1 ---- 10.77.2.2 kube-proxy

The API server listens at 10.77.0.1 in the namespace `plane`, where every endpoint is, too; what a node does not serve is
refused there. Knows nothing of what runs on the nodes.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from bench.cluster_objects import ENDPOINT_NETWORK, SERVICE_NETWORK, Fleet
from bench.namespaces import Namespaces
from bench.topology import end, python, start
from tests.cluster.control_plane import ControlPlane
from tests.cluster.objects import create_node
from tests.lab.namespaces import Namespace as LabNamespace

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from bench.namespaces import Namespace

PLANE: Final = "10.77.0.1"
NODES: Final = ("uproxy", "kube-proxy")
"""Of the nodes: the namespace's name is the Node's."""


class Site:
    """A context manager. folder: for files, keys and logs."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        with ExitStack() as owned:
            self._namespaces = owned.enter_context(Namespaces("plane", *NODES))
            self._wire()
            server = start(self._namespaces["plane"], None, python("bench.load.server"))
            owned.callback(end, server)
            inside = LabNamespace(self._namespaces["plane"].name)
            self.plane: Final = owned.enter_context(ControlPlane(folder / "plane", address=PLANE, namespace=inside, names=[PLANE]))
            for number, name in enumerate(NODES, start=1):
                create_node(self.plane.admin, name, [f"10.77.{number}.2"])
            self.fleet: Final = Fleet(self.plane.admin)
            self._owned = owned.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owned.close()

    def node(self, name: str) -> Namespace:
        """Give a node's namespace."""
        return self._namespaces[name]

    def _wire(self) -> None:
        plane = self._namespaces["plane"]
        plane.ip(f"addr add {PLANE}/32 dev lo", f"route add local {ENDPOINT_NETWORK} dev lo", f"route add unreachable {SERVICE_NETWORK}")
        # What is not served yet is to be refused each time it is asked for, not once a second.
        plane.sysctl(ipv4__ip_forward=1, ipv4__icmp_ratelimit=0, ipv4__icmp_msgs_per_sec=100000, ipv4__tcp_tw_reuse=1)
        for number, name in enumerate(NODES, start=1):
            device = f"to-{name}"
            self._namespaces.cable(name, "eth0", "plane", device)
            node = self._namespaces[name]
            node.ip(f"addr add 10.77.{number}.2/24 dev eth0", f"route add default via 10.77.{number}.1")
            node.sysctl(ipv4__tcp_tw_reuse=1, ipv4__icmp_ratelimit=0, ipv4__ip_forward=1)
            plane.ip(f"addr add 10.77.{number}.1/24 dev {device}")
