"""kube-proxy 1.25 in userspace mode: what Kubernetes had before the kernel's load balancing, Go and io.Copy. IPv4 only.

The last version with that mode, built from modules (kube-proxy-1.25/), told of Services by an API server of today through v1
Endpoints. It sends clients to ports of its own with iptables, and insists on 64,000 descriptors (setrlimit(2)) or ends.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.subjects.base import VIP, CannotRun, Running, launch
from bench.subjects.control_plane import NODE_NAME, Plane
from bench.subjects.kube_proxy import Fed
from bench.topology import NODE, Topology
from tests.cluster.binaries import ROOT, missing
from tests.cluster.kube_proxy import command

GO_MODULE: Final = Path(__file__).with_name("kube-proxy-1.25") / "go.mod"
DESCRIPTORS: Final = 64_000


class KubeProxyUserspace:
    """One Service with all ports."""

    title = "kube-proxy 1.25, userspace"
    role = "peer"
    udp = True

    def version(self) -> str:
        """Give its version; raises CannotRun where something that it needs is missing."""
        found = version()
        if not program().exists():
            raise CannotRun(f"kube-proxy {found} was not built: scripts/kubernetes-binaries.sh kube-proxy-1.25 needs Go")
        if lacking := missing():
            raise CannotRun(lacking)
        if shutil.which("iptables") is None:
            raise CannotRun("iptables is not installed")
        if not may_open(DESCRIPTORS):
            _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            raise CannotRun(f"it insists on {DESCRIPTORS:,} descriptors, this machine gives {hard:,} (ulimit -Hn)")
        return found

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node; raises CannotRun."""
        self.version()
        addresses = {4: VIP[4]}
        with ExitStack() as owned:
            plane = owned.enter_context(Plane(topology, folder, list(addresses), v1_endpoints=True))
            # Without a default route, which this node has not, it wants to be told where to listen.
            address = f"--bind-address={NODE[4]}"
            argv = command(NODE_NAME, plane.kubeconfig(), address, mode="userspace", program=program())
            # It starts as many threads as it sees CPUs: with one of them it has what the other proxies have.
            running = launch(topology, folder, argv, addresses, {"GOMAXPROCS": "1"})
            owned.callback(running.stop)
            plane.sleep()
            return Fed(addresses, running.process, running.log, plane, owned.pop_all())


def version() -> str:
    """Give the version that go.mod requires, as v1.25.16."""
    found = re.search(r"^require k8s\.io/kubernetes (v\S+)$", GO_MODULE.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise CannotRun(f"{GO_MODULE} requires no k8s.io/kubernetes")
    return found[1]


def program() -> Path:
    """Give the path of the binary, whether it was built or not."""
    return ROOT / ".cache" / "kubernetes" / version() / "kube-proxy"


def may_open(descriptors: int) -> bool:
    """Tell whether a process here may have so many descriptors: prlimit(1) asks for them as kube-proxy does."""
    return subprocess.run(["prlimit", f"--nofile={descriptors}:{descriptors}", "true"], check=False, capture_output=True).returncode == 0
