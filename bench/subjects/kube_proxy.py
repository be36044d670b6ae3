"""kube-proxy 1.36 in nftables mode: the node's kernel translates addresses, no packet meets a process.

A real kube-apiserver tells it of the Services (control_plane.py), which sleeps while nothing changes. kube-proxy itself goes on, on
the proxy's CPU, as on a node: it has next to nothing to do. As it carries nothing, no CPU time per unit is counted.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.subjects.base import VIP, CannotRun, Running, launch
from bench.subjects.control_plane import NODE_NAME, Plane
from tests.cluster.binaries import missing, version
from tests.cluster.kube_proxy import command

if TYPE_CHECKING:
    from pathlib import Path

    from bench.topology import Topology


@dataclass
class Fed(Running):
    """A proxy with a control plane of its own. owned: what is to be ended."""

    owned: ExitStack = field(default_factory=ExitStack, repr=False)

    def stop(self) -> None:
        """End the proxy, then its control plane."""
        self.owned.close()


class KubeProxy:
    """One Service for each family, with all ports."""

    title = "kube-proxy, nftables"
    role = "kernel"
    udp = True

    def version(self) -> str:
        """Give its version; raises CannotRun where it or its control plane was not built."""
        if shutil.which("nft") is None:
            raise CannotRun("nft is not installed")
        if lacking := missing() or missing("kube-proxy"):
            raise CannotRun(lacking)
        return version()

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node; raises CannotRun."""
        self.version()
        with ExitStack() as owned:
            plane = owned.enter_context(Plane(topology, folder, list(VIP)))
            running = launch(topology, folder, command(NODE_NAME, plane.kubeconfig()), VIP)
            owned.callback(running.stop)
            plane.sleep()
            return Fed(VIP, log=running.log, feed=plane, owned=owned.pop_all())
