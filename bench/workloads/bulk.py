"""Bytes in one direction, as many as pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.figures import throughput
from bench.load.server import DISCARD, STREAM
from bench.workloads.base import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.workloads.base import Workload

GROUP: Final = "bulk"

WORKLOADS: Final[Mapping[str, Workload]] = {
    "up": Traffic("bulk up, 1 connection", GROUP, "up", DISCARD, throughput(), ("--connections", "1"), quick=True),
    "down": Traffic("bulk down, 1 connection", GROUP, "down", STREAM, throughput(), ("--connections", "1"), quick=True),
}
