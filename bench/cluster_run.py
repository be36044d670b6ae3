"""One proxy with many Services from an API server: cold start, idle memory, changes at each rate.

Owns the order of a run and what comes out of it; cluster_report.py prints it. Seconds and bytes.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import nft_times
from bench.cluster_client import Client, Seen
from bench.cluster_objects import PORT, vip
from bench.processes import busy_seconds, cpu_seconds

if TYPE_CHECKING:
    from bench.cluster_site import Site
    from bench.cluster_subjects import Costs, Proxy
    from bench.namespaces import Namespace
    from bench.nft_times import Times
    from bench.progress import Reporter

KINDS: Final = ("endpoints replaced", "Service added")
START_SECONDS: Final = 300.0
SAMPLE: Final = 25
"""So many Services are asked for during a start, evenly spread, the first and the last among them: asking all of them would be a load."""
CHECKED: Final = 1000
"""So many are asked for afterwards, evenly spread, one after the other."""
ANSWER_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 2.0
LEAST: Final = 20
"""Changes at least; rates below one a second do not exist."""
MOST_CHANGES: Final = 1000


class Plan(NamedTuple):
    """What is measured. idle: seconds after the start until memory is read. rates: changes a second; seconds: of each."""

    services: int
    idle: float
    rates: tuple[int, ...]
    seconds: float

    def changes(self, rate: int) -> int:
        """Give the number of changes that are made at a rate."""
        return min(max(LEAST, int(rate * self.seconds)), MOST_CHANGES)

    @property
    def estimate(self) -> int:
        """Give the seconds that one proxy takes, more or less."""
        changing = sum(self.changes(rate) / rate + SETTLE_SECONDS for rate in self.rates)
        return int(5 + self.services / 500 + self.idle + len(KINDS) * changing)


class Series(NamedTuple):
    """Changes of one kind at one rate. others: CPUs that were in use by nobody of ours meanwhile."""

    kind: str
    rate: int
    others: float
    seen: list[Seen]


class Run(NamedTuple):
    """What one proxy gave. first, last: seconds from its start until the first and the last Service of the sample answered."""

    title: str
    services: int
    first: float
    last: float
    not_served: int
    others: float
    facts: dict[str, float]
    started: Costs
    idle: Costs
    changes: list[Series]
    end: Costs
    nft: Times


class NotServed(Exception):
    """A proxy that did not serve in time: its last words."""


class Others:
    """How many CPUs everybody else uses while this exists."""

    def __init__(self) -> None:
        self._began, self._busy = time.monotonic(), busy_seconds() - cpu_seconds(os.getpid())

    def used(self) -> float:
        """Give their number, of processes that are not ours."""
        return max(0.0, (busy_seconds() - cpu_seconds(os.getpid()) - self._busy) / (time.monotonic() - self._began))


def measure(site: Site, proxy: Proxy, plan: Plan, reporter: Reporter) -> Run:
    """Measure one proxy with the Services that are there; raises NotServed."""
    name = f"{plan.services:,} Services, {proxy.node}"
    node = site.node(proxy.node)
    with Client(node) as client:
        reporter.begin(f"{name}: starting")
        others, since = Others(), time.monotonic()
        with proxy.running(site):
            first, last = _await_sample(client, proxy, plan.services, since)
            used, started = others.used(), proxy.costs(site)
            reporter.going(f"{name}: all served after {last:.1f} s; idle for {plan.idle:g} s")
            missing = sum(not _answers(node, vip(number)) for number in _spread(plan.services, CHECKED))
            time.sleep(max(0.0, since + last + plan.idle - time.monotonic()))
            idle = proxy.costs(site)
            changes = [_change(site, client, kind, rate, plan, reporter, name) for kind in KINDS for rate in plan.rates]
            end, nft = proxy.costs(site), nft_times.measure(node, proxy.tables)
            found = Run(proxy.title, plan.services, first, last, missing, used, proxy.facts(site), started, idle, changes, end, nft)
    reporter.done(f"{name}: served after {last:.1f} s, {idle.memory.resident / 1e6:.0f} MB", plan.estimate)
    return found


def _await_sample(client: Client, proxy: Proxy, services: int, since: float) -> tuple[float, float]:
    found = client.watch([vip(number) for number in _spread(services, SAMPLE)], since, START_SECONDS)
    served = [seconds for seconds in found.values() if seconds is not None]
    if len(served) < len(found):
        missing = len(found) - len(served)
        raise NotServed(f"{missing} of {len(found)} Services do not answer after {START_SECONDS:g} s; it says: {proxy.last_words()}")
    return min(served), max(served)


def _spread(services: int, count: int) -> list[int]:
    count = min(count, services)
    return sorted({place * (services - 1) // max(1, count - 1) for place in range(count)})


def _change(site: Site, client: Client, kind: str, rate: int, plan: Plan, reporter: Reporter, name: str) -> Series:  # noqa: PLR0917 - one call
    count = plan.changes(rate)
    reporter.going(f"{name}: {kind}, {rate} a second, {count / rate:.0f} s")
    new = kind == KINDS[1]
    changes = list(site.fleet.new_services(count) if new else site.fleet.new_endpoints(count))
    time.sleep(SETTLE_SECONDS)
    others = Others()
    try:
        seen = client.change(changes, rate)
        used = others.used()
    finally:
        if new:
            site.fleet.remove_new_services(count)
    time.sleep(SETTLE_SECONDS)
    return Series(kind, rate, used, seen)


def _answers(node: Namespace, address: str) -> bool:
    with node.entered():
        sock = socket.socket()
    with sock:
        sock.settimeout(ANSWER_SECONDS)
        try:
            sock.connect((address, PORT))
            return bool(sock.recv(200))
        except OSError:
            return False
