"""Requests and answers over connections that stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.figures import latency, rate
from bench.load.server import ECHO
from bench.workloads.base import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.workloads.base import Workload

GROUP: Final = "requests"


def _requests(connections: int, size: int, *, quick: bool = False) -> Traffic:
    title = f"requests of {size} B, {connections} connection{'s' * (connections > 1)}"
    flags = ("--connections", str(connections), "--size", str(size))
    return Traffic(title, GROUP, "requests", ECHO, rate("request") + latency(), flags, quick=quick)


WORKLOADS: Final[Mapping[str, Workload]] = {
    "requests": _requests(32, 64, quick=True),
    "request": _requests(1, 64, quick=True),
}
