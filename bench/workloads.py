"""What is done through each subject, and which figures come out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench.load.server import DISCARD, ECHO, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BITS: Final = 8
GIGA: Final = 1e9
MANY: Final = "requests, 32 connections"


class Sample(NamedTuple):
    """One measurement: what the load counted in `seconds`, and what the proxy's processes used meanwhile.

    cpu: seconds of user and system time, None without a proxy. p50, p99: microseconds.
    others: CPUs that were in use by processes which are not this measurement's.
    """

    units: int
    seconds: float
    failed: int
    p50: float
    p99: float
    error: str
    cpu: float | None
    others: float = 0.0


class Figure(NamedTuple):
    """One row of the table: how it is called, how it follows from a sample (None: it does not), what is better."""

    title: str
    unit: str
    of: Callable[[Sample], float | None]
    higher_is_better: bool


class Workload(NamedTuple):
    """One kind of load: arguments of bench.load, and the figures."""

    title: str
    kind: str
    port: int
    connections: int
    figures: tuple[Figure, ...]
    udp: bool = False


def _gigabits(sample: Sample) -> float:
    return sample.units * BITS / GIGA / sample.seconds


def _thousands(sample: Sample) -> float:
    return sample.units / 1000 / sample.seconds


def _cpu_per_gigabyte(sample: Sample) -> float | None:
    return None if sample.cpu is None or not sample.units else sample.cpu * 1000 / (sample.units / GIGA)


def _cpu_per_unit(sample: Sample) -> float | None:
    return None if sample.cpu is None or not sample.units else sample.cpu * 1e6 / sample.units


def _bulk(title: str) -> tuple[Figure, ...]:
    rate = Figure(title, "Gbit/s", _gigabits, higher_is_better=True)
    return rate, Figure(f"{title}: CPU per GB", "ms", _cpu_per_gigabyte, higher_is_better=False)


def _paced(title: str, unit: str) -> tuple[Figure, ...]:
    rate = Figure(title, "k/s", _thousands, higher_is_better=True)
    return rate, Figure(f"{title}: CPU per {unit}", "us", _cpu_per_unit, higher_is_better=False)


def _latency(title: str) -> tuple[Figure, ...]:
    median = Figure(f"{title}: p50", "us", lambda sample: sample.p50, higher_is_better=False)
    return median, Figure(f"{title}: p99", "us", lambda sample: sample.p99, higher_is_better=False)


WORKLOADS: Final[Mapping[str, Workload]] = {
    "up": Workload("bulk up", "up", DISCARD, 1, _bulk("bulk up")),
    "down": Workload("bulk down", "down", STREAM, 1, _bulk("bulk down")),
    "requests": Workload(MANY, "requests", ECHO, 32, _paced(MANY, "request") + _latency(MANY)),
    "request": Workload("requests, 1 connection", "requests", ECHO, 1, _latency("requests, 1 connection")[:1]),
    "connections": Workload("new connections, 50 at a time", "connections", ECHO, 50, _paced("new connections", "connection")),
    "datagrams": Workload("UDP round trips, 64 flows", "datagrams", ECHO, 64, _paced("UDP round trips, 64 flows", "round trip"), udp=True),
}
