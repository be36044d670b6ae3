"""Datagrams and their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.figures import latency, rate
from bench.load.server import ECHO
from bench.workloads.base import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.workloads.base import Workload

GROUP: Final = "datagrams"

WORKLOADS: Final[Mapping[str, Workload]] = {
    "datagrams": Traffic(
        "UDP round trips, 64 flows", GROUP, "datagrams", ECHO, rate("round trip") + latency(), ("--connections", "64"), udp=True, quick=True
    ),
}
