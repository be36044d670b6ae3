"""What every workload offers, and the usual kind of it: one generator of bench/load against one port."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bench.measurement import generate

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bench.figures import Figure, Sample
    from bench.subjects.base import Running
    from bench.topology import Topology


class CannotCarry(Exception):
    """A workload that this subject does not carry, and why: its cell stays empty."""


@dataclass(frozen=True)
class Site:
    """Where one subject is measured. family: 4 or 6; seconds: of each measurement; counting: entered while the load counts."""

    topology: Topology
    running: Running
    family: int
    seconds: float
    warm_up: float
    counting: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def address(self) -> str:
        """Where the client reaches the subject; raises CannotCarry where it has no address of this family."""
        if self.family not in self.running.addresses:
            raise CannotCarry(f"carries no IPv{self.family}")
        return self.running.addresses[self.family]


class Workload(Protocol):
    """One kind of load."""

    @property
    def title(self) -> str:
        """What it is called in the report."""

    @property
    def group(self) -> str:
        """The part of the report that it belongs to."""

    @property
    def udp(self) -> bool:
        """Whether it needs a subject that carries UDP."""

    @property
    def quick(self) -> bool:
        """Whether --quick includes it."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What follows from its samples, in the report's order."""

    def measure(self, site: Site) -> Sample:
        """Load the subject and tell what came out; raises CannotCarry, or Failed with the load's own words."""


@dataclass(frozen=True)
class Traffic:
    """A generator of bench/load: its kind, its port, and the flags that it gets."""

    title: str
    group: str
    kind: str
    port: int
    figures: tuple[Figure, ...]
    flags: tuple[str, ...] = ()
    udp: bool = False
    quick: bool = False

    def measure(self, site: Site) -> Sample:
        """Run the generator on the client."""
        return generate(site, self.kind, self.port, *self.flags)
