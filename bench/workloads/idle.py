"""Connections on which nothing happens: what holding them costs in memory and descriptors.

As many as the descriptors allow, 10,000 at most; a proxy needs two for each. Each has carried one request before.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

from bench.figures import measured
from bench.load.server import ECHO
from bench.measurement import generate
from bench.processes import PROC, Memory, family, memory
from bench.topology import descriptors
from bench.workloads.base import CannotCarry

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from bench.figures import Figure, Sample
    from bench.workloads.base import Site, Workload

MOST: Final = 10_000
RESERVE: Final = 1_000
"""Descriptors that are left for everything else."""
SETTLE_SECONDS: Final = 0.5
"""After the last connection was opened."""
GONE_SECONDS: Final = 5.0
"""How long a proxy gets to close them all before the next load begins."""
MEGA: Final = 1e6


class Holdings(NamedTuple):
    """What a process tree has."""

    memory: Memory
    descriptors: int


@dataclass(frozen=True)
class Idle:
    """extra: bytes, anonymous and descriptors (per connection that is held), resident (the whole tree, in MB), held.

    A proxy is compared with itself before its first idle connections: a heap does not give everything back, so that the second
    time (the other family's) would seem to cost next to nothing.
    """

    connections: int = MOST
    group: str = "idle connections"
    udp: bool = False
    quick: bool = False
    figures: tuple[Figure, ...] = (
        measured("bytes", "memory per connection", "B"),
        measured("anonymous", "anonymous memory per connection", "B"),
        measured("descriptors", "descriptors per connection", ""),
        measured("resident", "memory of the whole process", "MB"),
        measured("held", "connections held", "", higher_is_better=True),
    )
    _before: WeakKeyDictionary[subprocess.Popen[str], Holdings] = field(default_factory=WeakKeyDictionary, repr=False, compare=False)

    @property
    def title(self) -> str:
        """Say how many."""
        return f"{self.connections:,} idle connections"

    def measure(self, site: Site) -> Sample:
        """Hold the connections and look at the proxy's processes meanwhile; raises CannotCarry without any, or Failed."""
        process = site.running.process
        if process is None:
            raise CannotCarry("no proxy, no memory")
        before = self._before.setdefault(process, holdings(process.pid))
        found: list[Holdings] = []

        @contextmanager
        def looking() -> Iterator[None]:
            time.sleep(min(SETTLE_SECONDS, site.seconds / 2))
            found.append(holdings(process.pid))
            with site.counting():
                yield

        flags = ("--connections", str(self.connections))
        sample = generate(replace(site, counting=looking), "idle", ECHO, *flags)
        _wait_until_closed(process.pid, before.descriptors + self.connections // 10)
        return sample._replace(extra=costs(before, found[0], sample.units))


def holdings(pid: int) -> Holdings:
    """Look at a process and its descendants."""
    return Holdings(memory(pid), sum(map(_descriptors, family(pid))))


def costs(before: Holdings, now: Holdings, held: int) -> dict[str, float]:
    """Give what one of the connections costs that are held; empty without any."""
    if not held:
        return {}
    return {
        "bytes": (now.memory.resident - before.memory.resident) / held,
        "anonymous": (now.memory.anonymous - before.memory.anonymous) / held,
        "descriptors": round((now.descriptors - before.descriptors) / held, 2),
        "resident": now.memory.resident / MEGA,
        "held": float(held),
    }


def as_many_as_allowed() -> int:
    """Give how many connections the descriptors of a process allow, in whole thousands where there are enough."""
    allowed = max(1, min(MOST, (descriptors() - RESERVE) // 2))
    return allowed // 1000 * 1000 or allowed


def _descriptors(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        return sum(1 for _ in (PROC / str(pid) / "fd").iterdir())
    return 0


def _wait_until_closed(pid: int, most: int) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while sum(map(_descriptors, family(pid))) > most and time.monotonic() < deadline:
        time.sleep(0.05)


WORKLOADS: Final[Mapping[str, Workload]] = {"idle": Idle(as_many_as_allowed())}
