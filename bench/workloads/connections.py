"""Connections that carry one request each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.figures import latency, rate
from bench.load.server import ECHO
from bench.workloads.base import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.workloads.base import Workload

GROUP: Final = "connections"

WORKLOADS: Final[Mapping[str, Workload]] = {
    "connections": Traffic(
        "new connections, 50 at a time", GROUP, "connections", ECHO, rate("connection") + latency(), ("--connections", "50"), quick=True
    ),
}
