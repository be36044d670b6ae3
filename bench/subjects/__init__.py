"""What is measured: one module per proxy, with its configuration beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.subjects.dnat import DestinationNAT
from bench.subjects.go_copy import GoCopy
from bench.subjects.haproxy import HAProxy
from bench.subjects.kube_proxy import KubeProxy
from bench.subjects.kube_proxy_userspace import KubeProxyUserspace
from bench.subjects.nginx import Nginx
from bench.subjects.routed import Routed
from bench.subjects.streams import Streams
from bench.subjects.uproxy import UProxy

if TYPE_CHECKING:
    from bench.subjects.base import Subject

SUBJECTS: Final[dict[str, Subject]] = {
    "uproxy": UProxy("uproxy", role="ours"),
    "haproxy": HAProxy(),
    "nginx": Nginx(),
    "streams": Streams(),
    "go-copy": GoCopy(),
    "kube-proxy-userspace": KubeProxyUserspace(),
    "kube-proxy": KubeProxy(),
    "dnat": DestinationNAT(),
    "none": Routed(),
    "uproxy-kept": UProxy("uproxy, the client's address kept", pods=True),
    "uproxy-direct": UProxy("uproxy on the node's own address, redirect none", redirect="none"),
    "uproxy-routes": UProxy("uproxy without netfilter, redirect routes", redirect="routes"),
    "uproxy-asyncio": UProxy("uproxy on asyncio's own loop", loop="asyncio"),
}
"""By the name on the command line, in the report's order: ours, peers in user space, the kernel, variants of ours."""
DEFAULT: Final = (*(name for name, subject in SUBJECTS.items() if subject.role != "variant"), "uproxy-direct", "uproxy-asyncio")
