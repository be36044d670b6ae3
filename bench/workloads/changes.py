"""Requests while other Services change: what a control plane at work takes away from the packets.

1,000 other Services are there, and so many times a second one of them gets other endpoints, through whatever tells the subject of
Services. That work is part of the load: it runs on the load's CPU, and a figure says how much of it.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Self

from bench.figures import latency, measured, rate
from bench.load.server import ECHO, NAME
from bench.manifests import endpoint_slice, service
from bench.measurement import Failed, generate
from bench.subjects.base import name_of_endpoint
from bench.subjects.feed import OTHERS
from bench.topology import SERVER
from bench.workloads.base import CannotCarry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.figures import Figure, Sample
    from bench.subjects.feed import Feed
    from bench.workloads.base import Site, Workload

SERVICES: Final = 1000
PORT: Final = 80
VIPS: Final = {4: "10.96.1.0", 6: "fd10:96::1000"}
"""The first cluster IP, by family."""
ENDPOINTS: Final = {4: "10.244.0.1", 6: "fd10:244::1:0"}
"""The first endpoint of so many that each change takes a new one."""
MOST: Final = 65_000
"""Endpoints of a family, then the first one's turn comes again."""
NETWORKS: Final = {4: "10.244.0.0/16", 6: "fd10:244::/64"}
WORKERS: Final = 8
"""Changes under way at the same time: an API server on a busy CPU takes tens of milliseconds for each."""
SERVED_SECONDS: Final = 120.0
"""Within which all must be served: kube-proxy's userspace mode takes a minute for 1,000 Services, an iptables for each rule."""
PROBE_SECONDS: Final = 0.2
POLL_SECONDS: Final = 0.005
SETTLE_SECONDS: Final = 1.0
GROUP: Final = "changes"
_FILLS = itertools.count(1)
"""Services that come back have other names each time: what a proxy still has to clear away of the former ones is not theirs."""


@dataclass(frozen=True)
class WhileChanging:
    """32 connections' requests through the Service that is always measured. per_second: changes; 0: the others just are there."""

    per_second: int
    quick: bool = False
    services: int = SERVICES
    group: str = GROUP
    udp: bool = False

    @property
    def title(self) -> str:
        """Say how many Services, and how many changes."""
        return f"requests beside {self.services:,} Services, {f'{self.per_second} changes/s' if self.per_second else 'none changes'}"

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Give what requests have, and what the changes were."""
        changes = (
            measured("changes", "changes made", "1/s", higher_is_better=True),
            measured("served", "last change to served", "ms"),
            measured("feeding", "CPU of who makes the changes", "%"),
        )
        return (*rate("request"), *latency(), *(changes if self.per_second else ()))

    def measure(self, site: Site) -> Sample:
        """Load the subject; raises CannotCarry where there are no Services, Failed when changes cannot be made or are not served."""
        feed = site.running.feed
        if feed is None:
            raise CannotCarry("has no Services")
        if site.family not in site.running.addresses:
            raise CannotCarry(f"carries no IPv{site.family}")
        try:
            with _others(site, feed, self.services) as others:
                return self._loaded(site, feed, others)
        except (OSError, RuntimeError) as error:
            raise Failed(f"changes: {error}") from error

    def _loaded(self, site: Site, feed: Feed, others: Others) -> Sample:
        with feed.awake() if self.per_second else nullcontext(), Changes(others, self.per_second) as changes:
            before, since = feed.cpu_seconds(), time.monotonic()
            sample = generate(site, "requests", ECHO, "--connections", "32", "--size", "64")
            spent, took = feed.cpu_seconds() - before, time.monotonic() - since
            made = changes.stop()
            served = others.served(SERVED_SECONDS) if made else 0.0
        extra = {"changes": made / took, "feeding": 100 * spent / took, "served": 1000 * served}
        return sample._replace(extra={**sample.extra, **extra})


class Others:
    """The other Services of one family, each with one endpoint, which are all the server's."""

    def __init__(self, site: Site, feed: Feed, count: int) -> None:
        self._site = site
        self._feed = feed
        self._count = count
        self._vip = ip_address(VIPS[site.family])
        self._endpoint = ip_address(ENDPOINTS[site.family])
        self._used = itertools.count(count)
        self._fill = next(_FILLS)
        self._newest: tuple[int, int, float] = (0, 0, 0.0)
        self._lock = threading.Lock()

    def fill(self) -> None:
        """Declare them and wait until they are served; raises OSError or RuntimeError."""
        services = [service(self._name(place), str(self._vip + place), {"http": ("TCP", PORT)}) for place in range(self._count)]
        self._feed.fill([_elsewhere(each) for each in services], [self._slice(place, place) for place in range(self._count)])
        last = self._count - 1
        self._newest = last, last, time.monotonic()
        self.served(SERVED_SECONDS)

    def change(self, number: int) -> None:
        """Give one of them another endpoint; raises OSError or RuntimeError."""
        place, endpoint = number % self._count, next(self._used) % MOST
        with self._lock:
            self._newest = place, endpoint, time.monotonic()
        self._feed.change(place, self._slice(place, endpoint))

    def served(self, seconds: float) -> float:
        """Wait until the newest change is served and give how long that took; raises RuntimeError."""
        place, endpoint, since = self._newest
        expected = str(self._endpoint + endpoint)
        while self._answer(place) != expected:
            if time.monotonic() > since + seconds:
                found = self._answer(place) or "nobody"
                raise RuntimeError(f"Service {place} is not served within {seconds:g} s: {found} answers instead of {expected}")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - since

    def gone(self, seconds: float) -> None:
        """Wait until none of them is served any more; raises RuntimeError."""
        deadline = time.monotonic() + seconds
        while any(self._answer(place) for place in (0, self._count - 1)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"Services that were removed are served after {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def _answer(self, place: int) -> str:
        try:
            return name_of_endpoint(self._site.topology, (str(self._vip + place), PORT), PROBE_SECONDS)
        except OSError:
            return ""

    def _name(self, place: int) -> str:
        return f"other-{self._fill}-{place:05}"

    def _slice(self, place: int, endpoint: int) -> dict[str, Any]:
        return _elsewhere(endpoint_slice(self._name(place), [str(self._endpoint + endpoint)], {"http": ("TCP", NAME)}))


class Changes:
    """Makes changes at a rate, on threads, until it is stopped or left. Raises what one of them raised."""

    def __init__(self, others: Others, per_second: int) -> None:
        self._others = others
        self._rate = per_second
        self._turns = itertools.count()
        self._end = threading.Event()
        self._failures: list[Exception] = []
        self._made = itertools.count()
        self._threads = [threading.Thread(target=self._work, name=f"changes {number}") for number in range(WORKERS if per_second else 0)]
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def stop(self) -> int:
        """End and give how many were made; raises OSError or RuntimeError."""
        self.__exit__()
        if self._failures:
            raise self._failures[0]
        return next(self._made)

    def _work(self) -> None:
        try:
            while True:
                turn = next(self._turns)
                if self._end.wait(max(0.0, self._began + turn / self._rate - time.monotonic())):
                    return
                self._others.change(turn)
                next(self._made)
        except (OSError, RuntimeError) as error:
            self._failures.append(error)
            self._end.set()


@contextmanager
def _others(site: Site, feed: Feed, count: int) -> Iterator[Others]:
    """Let them be there until left."""
    routed(site)
    others = Others(site, feed, count)
    try:
        with feed.awake():
            others.fill()
            time.sleep(SETTLE_SECONDS)
        yield others
    finally:
        with feed.awake():
            feed.clear()
            others.gone(SERVED_SECONDS)


def routed(site: Site) -> None:
    """Bring packets for any endpoint to the server, which takes all of them for its own."""
    network = NETWORKS[site.family]
    site.topology.server.ip(f"route replace local {network} dev lo")
    site.topology.node.ip(f"route replace {network} via {SERVER[site.family]}")


def _elsewhere(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "namespace": OTHERS}}


WORKLOADS: Final[Mapping[str, Workload]] = {
    "changes-0": WhileChanging(0, quick=True),
    "changes-10": WhileChanging(10),
    "changes-100": WhileChanging(100, quick=True),
}
