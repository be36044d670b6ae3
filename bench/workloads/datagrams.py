"""Datagrams: their answers (sizes at 64 flows, numbers of flows at 64 bytes), one-shot flows, and a flood in one direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.figures import latency, loss, measured, rate
from bench.load.server import DISCARD, ECHO
from bench.measurement import generate
from bench.topology import SERVER
from bench.workloads.base import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.figures import Figure, Sample
    from bench.workloads.base import Site, Workload

GROUP: Final = "datagrams"
QUERIES: Final = 32


def _round_trips(flows: int, size: int, *, quick: bool = False) -> Traffic:
    title = f"UDP round trips of {size:,} B, {flows:,} flow{'s' * (flows > 1)}"
    flags = ("--connections", str(flows), "--size", str(size))
    return Traffic(title, GROUP, "datagrams", ECHO, rate("round trip") + latency() + loss(), flags, udp=True, quick=quick)


@dataclass(frozen=True)
class Flood:
    """As many datagrams as are offered in one direction; the load's server is asked what arrived, past the subject.

    per_second: datagrams, more than most proxies carry with one CPU: the others lose none and differ by what it costs.
    """

    per_second: int = 100_000
    flows: int = 4
    size: int = 1400
    group: str = GROUP
    udp: bool = True
    quick: bool = False
    figures: tuple[Figure, ...] = (*rate("datagram"), *loss(), measured("offered", "offered", "k/s", higher_is_better=True))

    @property
    def title(self) -> str:
        """Say how many of which size."""
        return f"UDP one way, {self.per_second:,} datagrams of {self.size:,} B a second"

    def measure(self, site: Site) -> Sample:
        """Flood the subject; raises Failed."""
        flags = ("--connections", str(self.flows), "--size", str(self.size), "--rate", str(self.per_second))
        return generate(site, "flood", DISCARD, *flags, "--server", SERVER[site.family])


WORKLOADS: Final[Mapping[str, Workload]] = {
    "datagrams": _round_trips(64, 64, quick=True),
    "datagram": _round_trips(1, 64),
    "datagrams-1000": _round_trips(1000, 64),
    "datagrams-1400": _round_trips(64, 1400),
    "datagrams-8000": _round_trips(64, 8000),
    "udp-bulk": Flood(),
    "one-shot": Traffic(
        f"UDP lookups, each from a new port, {QUERIES} at a time",
        GROUP,
        "queries",
        ECHO,
        rate("lookup") + latency() + loss(),
        ("--connections", str(QUERIES)),
        udp=True,
    ),
}
