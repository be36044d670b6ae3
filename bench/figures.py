"""What one measurement gave, and the figures that follow from it: pure values, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BITS: Final = 8
GIGA: Final = 1e9


class Sample(NamedTuple):
    """One measurement: what the load counted in `seconds`, and what the proxy's processes used meanwhile.

    units: bytes, requests, connections, round trips or datagrams. failed: what was tried and did not come to an end, error: the
    most frequent reason. lost: datagrams that did not arrive, or whose answer did not. p50, p99, p999: microseconds, 0: not measured.
    cpu: seconds of user and system time, None without a proxy. switches: context switches of the proxy.
    others: CPUs that were in use by processes which are not this measurement's. extra: what only this workload measures.
    """

    units: int
    seconds: float
    failed: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    lost: int = 0
    error: str = ""
    cpu: float | None = None
    switches: int | None = None
    others: float = 0.0
    extra: Mapping[str, float] = {}


class Figure(NamedTuple):
    """One row of the table. key: unique within its workload; of: how it follows from a sample (None: it does not)."""

    key: str
    title: str
    unit: str
    of: Callable[[Sample], float | None]
    higher_is_better: bool = False


def throughput() -> tuple[Figure, ...]:
    """Give the figures of a bulk load, whose units are bytes."""
    return (
        Figure("rate", "throughput", "Gbit/s", lambda sample: sample.units * BITS / GIGA / sample.seconds, higher_is_better=True),
        Figure("cpu", "CPU per GB", "ms", lambda sample: _per_unit(sample, 1000 * GIGA)),
        Figure("switches", "context switches per GB", "", lambda sample: _switches(sample, GIGA)),
    )


def rate(unit: str) -> tuple[Figure, ...]:
    """Give the figures of a load that counts: how many in a second, and what each costs. unit: its name, as "request"."""
    return (
        Figure("rate", f"{unit}s", "k/s", lambda sample: sample.units / 1000 / sample.seconds, higher_is_better=True),
        *cost(unit),
    )


def cost(unit: str) -> tuple[Figure, ...]:
    """Give the figures of what each unit costs."""
    return (
        Figure("cpu", f"CPU per {unit}", "us", lambda sample: _per_unit(sample, 1e6)),
        Figure("switches", f"context switches per {unit}", "", _switches),
    )


def latency() -> tuple[Figure, ...]:
    """Give the figures of how long each unit took."""
    return (
        Figure("p50", "p50", "us", lambda sample: sample.p50 or None),
        Figure("p99", "p99", "us", lambda sample: sample.p99 or None),
        Figure("p999", "p99.9", "us", lambda sample: sample.p999 or None),
    )


def loss() -> tuple[Figure, ...]:
    """Give the figure of how many datagrams were lost, of those that were sent."""
    return (Figure("lost", "lost", "%", _lost),)


def measured(key: str, title: str, unit: str, *, higher_is_better: bool = False) -> Figure:
    """Give the figure of something that only this workload measures: Sample.extra[key]."""
    return Figure(key, title, unit, lambda sample: sample.extra.get(key), higher_is_better)


def _per_unit(sample: Sample, scale: float) -> float | None:
    return None if sample.cpu is None or not sample.units else sample.cpu * scale / sample.units


def _switches(sample: Sample, scale: float = 1.0) -> float | None:
    return None if sample.switches is None or not sample.units else sample.switches * scale / sample.units


def _lost(sample: Sample) -> float | None:
    sent = sample.units + sample.lost
    return 100 * sample.lost / sent if sent else None
