"""Bytes, as many as pass: in one direction, and in both directions of the same connections at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.figures import measured, throughput
from bench.load.server import DISCARD, STREAM
from bench.workloads.base import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.workloads.base import Workload

GROUP: Final = "bulk"
DIRECTIONS: Final = (measured("up", "up", "Gbit/s", higher_is_better=True), measured("down", "down", "Gbit/s", higher_is_better=True))
"""How the bytes of both directions are divided."""


def _bulk(kind: str, connections: int, *, quick: bool = False) -> Traffic:
    title = f"bulk {'both ways' if kind == 'both' else kind}, {connections} connection{'s' * (connections > 1)}"
    figures = throughput() + (DIRECTIONS if kind == "both" else ())
    # The server's stream discards what it is sent.
    port = DISCARD if kind == "up" else STREAM
    return Traffic(title, GROUP, kind, port, figures, ("--connections", str(connections)), quick=quick)


WORKLOADS: Final[Mapping[str, Workload]] = {
    "up": _bulk("up", 1, quick=True),
    "down": _bulk("down", 1, quick=True),
    "both": _bulk("both", 1),
    "up-64": _bulk("up", 64),
    "down-64": _bulk("down", 64),
    "both-64": _bulk("both", 64),
}
