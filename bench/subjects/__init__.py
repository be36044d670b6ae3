"""What is measured: one module per proxy, with its configuration beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.subjects.haproxy import HAProxy
from bench.subjects.nginx import Nginx
from bench.subjects.routed import Routed
from bench.subjects.uproxy import UProxy

if TYPE_CHECKING:
    from bench.subjects.base import Subject

SUBJECTS: Final[dict[str, Subject]] = {
    "uproxy": UProxy("uproxy", role="ours"),
    "haproxy": HAProxy(),
    "nginx": Nginx(),
    "none": Routed(),
    "uproxy-kept": UProxy("uproxy, client's address kept", pods=True),
    "uproxy-direct": UProxy("uproxy on the node's own address", redirect="none"),
    "uproxy-routes": UProxy("uproxy, routes back end", redirect="routes"),
    "uproxy-asyncio": UProxy("uproxy on asyncio", loop="asyncio"),
}
DEFAULT: Final = ("uproxy", "haproxy", "nginx", "none")
