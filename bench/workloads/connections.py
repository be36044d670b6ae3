"""Connections that carry one request each, some at a time or a thousand at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.figures import cost, latency, measured, rate
from bench.load.server import ANSWER, ECHO
from bench.workloads.base import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.workloads.base import Workload

GROUP: Final = "connections"
AT_A_TIME: Final = ("--connections", "50")
STORM: Final = 1000
STORM_FIGURES: Final = (
    measured("all", "until all are answered", "ms"),
    measured("worst", "the longest until all are answered", "ms"),
    *cost("connection"),
    *latency(),
)

WORKLOADS: Final[Mapping[str, Workload]] = {
    "connections": Traffic(
        "new connections, 50 at a time", GROUP, "connections", ECHO, rate("connection") + latency(), AT_A_TIME, quick=True
    ),
    "connections-server-closes": Traffic(
        "new connections, the server closes first", GROUP, "connections-until-end", ANSWER, rate("connection") + latency(), AT_A_TIME
    ),
    "storm": Traffic(f"{STORM:,} new connections at once", GROUP, "storm", ECHO, STORM_FIGURES, ("--connections", str(STORM))),
}
