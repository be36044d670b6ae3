"""Latency under half of the load that a subject can carry: requests that come when they are due, not when an answer allows it.

What it can carry is measured right before, briefly, by a closed loop: each subject is paced at half of its own most.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bench.figures import latency, rate
from bench.load.server import ECHO
from bench.measurement import Failed, generate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.figures import Figure, Sample
    from bench.workloads.base import Site, Workload

GROUP: Final = "requests"
CONNECTIONS: Final = 32
SIZE: Final = 64
MOST_SECONDS: Final = 1.0
"""How long the most is measured, no longer than everything else."""


@dataclass(frozen=True)
class HalfLoad:
    """Requests of 64 bytes at half of the rate that 32 connections reached; latencies count from when each was due."""

    title: str = f"requests of {SIZE} B at half of its own most, {CONNECTIONS} connections"
    group: str = GROUP
    udp: bool = False
    quick: bool = False
    figures: tuple[Figure, ...] = rate("request") + latency()

    def measure(self, site: Site) -> Sample:
        """Measure the most, then half of it; raises Failed. others: of the noisier one of the two."""
        flags = ("--connections", str(CONNECTIONS), "--size", str(SIZE))
        at_most = replace(site, seconds=min(site.seconds, MOST_SECONDS), counting=nullcontext)
        most = generate(at_most, "requests", ECHO, *flags)
        if not most.units:
            raise Failed(most.error or "no request was answered")
        sample = generate(site, "paced", ECHO, *flags, "--rate", f"{most.units / most.seconds / 2:.3f}")
        return sample._replace(others=max(most.others, sample.others))


WORKLOADS: Final[Mapping[str, Workload]] = {"half-load": HalfLoad()}
