"""Which endpoint a new connection or flow gets: round robin or least connections, session affinity, passive ejection.

Owns the order of endpoints, the clients' pins and the memory of failures; knows no socket. Time and randomness are
parameters. Invariant: an endpoint that is not in the Balancer's list, or that the caller says to avoid, is never picked;
ejection alone never leaves a client without an endpoint.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

from uproxy.core.loads import Loads

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterable

    from uproxy.core.model import Endpoint, ServicePortName

_SWEEP: Final = 1024
"""Failing endpoints remembered before the forgotten ones among them are looked for."""


class _Suspect:
    """An endpoint that failed lately."""

    __slots__ = ("ejections", "failures", "trial", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.ejections = 0
        self.until = 0.0
        self.trial = False


class Ejector:
    """Remembers endpoints that failed several times running and passes them over for a while.

    failures: how many running eject an endpoint; 0: never. base: seconds of the first ejection, each further
    one lasts twice as long, up to limit. When the time is over one connection tries the endpoint: it ends
    the matter or ejects again. Shared by all Balancers, for endpoints are. Healthy endpoints cost nothing.
    """

    def __init__(self, failures: int, base: float, limit: float) -> None:
        self.suspects: dict[Endpoint, _Suspect] = {}
        self._failures = failures
        self._base = base
        self._limit = limit
        self._sweep_at = _SWEEP

    def failed(self, endpoint: Endpoint, now: float) -> bool:
        """Note a failed attempt. True: that ejected the endpoint.

        Failures while it is ejected are of attempts begun earlier (or of a Service that has no other) and change nothing.
        """
        if not self._failures:
            return False
        suspect = self.suspects.get(endpoint)
        if suspect is None:
            self._sweep(now)
            suspect = self.suspects[endpoint] = _Suspect()
        if now < suspect.until and not suspect.trial:
            return False
        suspect.failures += 1
        if suspect.failures < self._failures:
            suspect.until = now
            return False
        suspect.until = now + min(self._base * 2.0 ** min(suspect.ejections, 64), self._limit)
        suspect.ejections += 1
        suspect.trial = False
        return True

    def succeeded(self, endpoint: Endpoint) -> None:
        """Note an attempt that succeeded: the endpoint is healthy."""
        self.suspects.pop(endpoint, None)

    def is_ejected(self, endpoint: Endpoint, now: float) -> bool:
        """Tell whether the endpoint should be passed over now."""
        suspect = self.suspects.get(endpoint)
        return suspect is not None and now < suspect.until

    def picked(self, endpoint: Endpoint, now: float) -> None:
        """Note that a connection goes to the endpoint: the one trial, if its ejection is over.

        Until the trial has a result others pass the endpoint over; one that never gets a result (UDP) is
        followed by another after base seconds.
        """
        suspect = self.suspects.get(endpoint)
        if suspect is not None and suspect.ejections and now >= suspect.until:
            suspect.trial = True
            suspect.until = now + self._base

    def forget(self, endpoints: Iterable[Endpoint]) -> None:
        """Drop what is known of endpoints that are gone."""
        for endpoint in endpoints:
            self.suspects.pop(endpoint, None)

    def _sweep(self, now: float) -> None:
        """Drop what nobody asked about for long: endpoints that went away while their last connections failed."""
        if len(self.suspects) >= self._sweep_at:
            kept = {endpoint: suspect for endpoint, suspect in self.suspects.items() if now < suspect.until + self._limit}
            self.suspects = kept
            self._sweep_at = max(_SWEEP, 2 * len(kept))


class AffinityTable:
    """Which endpoint each client of each ServicePort is pinned to: the least recently used is forgotten beyond max_entries."""

    def __init__(self, max_entries: int) -> None:
        self.evictions = 0
        self._max_entries = max_entries
        self._pins: OrderedDict[tuple[ServicePortName, str], tuple[Endpoint, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pins)

    def find(self, service_port: ServicePortName, client: str, now: float, seconds: float) -> Endpoint | None:
        """Give the endpoint that client is pinned to, unless it has been silent for that many seconds."""
        pin = self._pins.get((service_port, client))
        return pin[0] if pin is not None and now - pin[1] < seconds else None

    def pin(self, service_port: ServicePortName, client: str, endpoint: Endpoint, now: float) -> None:
        """Pin client to endpoint, or note that it came again."""
        key = (service_port, client)
        self._pins[key] = (endpoint, now)
        self._pins.move_to_end(key)
        if len(self._pins) > self._max_entries:
            self._pins.popitem(last=False)
            self.evictions += 1


class Balancing(Protocol):
    """What a listener asks about a client's endpoint. loads: to be told of connections where annotations ask for something."""

    service_port: ServicePortName
    loads: Loads

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Give every endpoint that a client may get."""

    def offers(self, client: str) -> bool:
        """Tell whether there is an endpoint for this client at all."""

    def pick(self, client: str, now: float, avoid: Collection[Endpoint] = ()) -> Endpoint | None:
        """Choose the endpoint of a new connection of client; None if there is none outside avoid."""


class Split:
    """Two Balancers behind one address: one for pods and the node itself, one for who comes from outside."""

    def __init__(self, outside: Balancer, inside: Balancer, is_inside: Callable[[str], bool]) -> None:
        self.service_port = outside.service_port
        self.loads = outside.loads
        self._outside = outside
        self._inside = inside
        self._is_inside = is_inside

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of both; some may be there twice."""
        return self._outside.endpoints + self._inside.endpoints

    def offers(self, client: str) -> bool:
        """Tell whether there is one on the client's side."""
        return (self._inside if self._is_inside(client) else self._outside).offers(client)

    def pick(self, client: str, now: float, avoid: Collection[Endpoint] = ()) -> Endpoint | None:
        """Choose among those of the client's side."""
        return (self._inside if self._is_inside(client) else self._outside).pick(client, now, avoid)


class Balancer:
    """Gives the connections of one ServicePort to its endpoints, in turn, by client or by load. About 1 us per pick."""

    def __init__(
        self, service_port: ServicePortName, ejector: Ejector, affinity: AffinityTable, rng: random.Random, loads: Loads | None = None
    ) -> None:
        self.service_port = service_port
        self.loads = Loads() if loads is None else loads
        self._least_connections = False
        self._ejector = ejector
        self._affinity = affinity
        self._rng = rng
        self._affinity_seconds: int | None = None
        self._ring: list[Endpoint] = []
        self._members: frozenset[Endpoint] = frozenset()
        self._next = 0

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints in the order of their turns, the next one first."""
        return (*self._ring[self._next :], *self._ring[: self._next])

    def offers(self, client: str) -> bool:  # noqa: ARG002 - the Protocol's parameter
        """Tell whether there is any."""
        return bool(self._ring)

    def set(self, endpoints: Iterable[Endpoint], affinity_seconds: int | None, *, least_connections: bool = False) -> None:
        """Take over a new list: those that stay keep their order and turn, new ones come in at random places."""
        wanted = dict.fromkeys(endpoints)
        ring = [endpoint for endpoint in self.endpoints if endpoint in wanted]
        for endpoint in wanted:
            if endpoint not in self._members:
                ring.insert(self._rng.randrange(len(ring) + 1), endpoint)
        self._ejector.forget(self._members.difference(wanted))
        self._ring = ring
        self._members = frozenset(ring)
        self._next = 0
        self._affinity_seconds = affinity_seconds
        self._least_connections = least_connections

    def pick(self, client: str, now: float, avoid: Collection[Endpoint] = ()) -> Endpoint | None:
        """Choose the endpoint of a new connection of client; None if there is none outside avoid.

        A client with session affinity gets its endpoint as long as that is listed, not avoided and not
        ejected; otherwise it is pinned to the one chosen now.
        """
        if self._affinity_seconds is None:
            return self._take_turn(now, avoid)
        pinned = self._affinity.find(self.service_port, client, now, self._affinity_seconds)
        if pinned is None or pinned not in self._members or pinned in avoid:
            chosen = self._take_turn(now, avoid)
        elif self._ejector.is_ejected(pinned, now):
            chosen = self._take_turn(now, avoid, pinned)
        else:
            chosen = pinned
            self._ejector.picked(pinned, now)
        if chosen is not None:
            self._affinity.pin(self.service_port, client, chosen, now)
        return chosen

    def _take_turn(self, now: float, avoid: Collection[Endpoint], last_resort: Endpoint | None = None) -> Endpoint | None:
        """Give the turn to the next endpoint that is neither avoided nor ejected; if all are ejected, to last_resort or the next."""
        if self._least_connections:
            return self._take_least(now, avoid) or last_resort or self._next_of_ejected(avoid)
        ring = self._ring
        position = self._next
        for _ in ring:
            endpoint = ring[position]
            position += 1
            if position == len(ring):
                position = 0
            if endpoint in avoid:
                continue
            if not self._ejector.suspects:
                self._next = position
                return endpoint
            if not self._ejector.is_ejected(endpoint, now):
                self._ejector.picked(endpoint, now)
                self._next = position
                return endpoint
        return last_resort or self._next_of_ejected(avoid)

    def _take_least(self, now: float, avoid: Collection[Endpoint]) -> Endpoint | None:
        """Give the endpoint that has the fewest connections; among equals the turn decides. 0.2 us per endpoint."""
        loads, ejector = self.loads, self._ejector
        able = (endpoint for endpoint in self.endpoints if endpoint not in avoid and not ejector.is_ejected(endpoint, now))
        chosen = min(able, key=loads.of, default=None)
        if chosen is not None:
            ejector.picked(chosen, now)
            self._next = (self._ring.index(chosen) + 1) % len(self._ring)
        return chosen

    def _next_of_ejected(self, avoid: Collection[Endpoint]) -> Endpoint | None:
        for step in range(len(self._ring)):
            position = (self._next + step) % len(self._ring)
            if self._ring[position] not in avoid:
                self._next = (position + 1) % len(self._ring)
                return self._ring[position]
        return None
