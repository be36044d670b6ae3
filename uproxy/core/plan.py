"""The routes of all Services together: who holds an address and port, which endpoints would loop, what changed.

Owns what one Service alone cannot decide, and the difference between what runs and what should. Knows
nothing of listeners. Invariant: after settle() each claimed RouteKey has exactly one holder, no effective
Route leads to a claimed RouteKey, and what settle() gave out so far, laid over each other, is the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from uproxy.core.model import Endpoint, ObjectKey, Protocol, Refusal, Route, RouteKey
from uproxy.core.policy import ServiceRoutes

_NO_ROUTES: Final = ServiceRoutes()


class Settled(Struct, frozen=True):
    """What the last settle changed.

    changed: the effective Route of each key where it is another one now; None where there is none any more.
    refusals: of each Service whose refusals are other ones now, all of them; empty: nothing is refused any more.
    """

    changed: Mapping[RouteKey, Route | None]
    refusals: Mapping[ObjectKey, tuple[Refusal, ...]]


class Plan(Struct, frozen=True):
    """What to do to listeners. update: the key stays, what is behind it (or even whose it is) differs."""

    open: tuple[Route, ...] = ()
    update: tuple[Route, ...] = ()
    close: tuple[RouteKey, ...] = ()


def diff(running: Mapping[RouteKey, Route], changed: Mapping[RouteKey, Route | None]) -> Plan:
    """Compare the changed keys with what runs: a route that refuses has no listener."""
    opening, updating, closing = [], [], []
    for key, route in changed.items():
        before = running.get(key)
        if route is not None and route.has_listener:
            if before is None:
                opening.append(route)
            elif before != route:
                updating.append(route)
        elif before is not None:
            closing.append(key)
    return Plan(tuple(opening), tuple(updating), tuple(closing))


def _claimant(route: Route) -> ObjectKey:
    return ObjectKey(route.service_port.namespace, route.service_port.name)


class Desired:
    """The routes that all Services ask for, and what comes of it when they meet.

    put and drop take notes and keep the indexes; settle decides, so that a batch has one outcome whatever
    its order. Both cost as much as what changed, however many Services there are.
    """

    def __init__(self) -> None:
        self._found: dict[ObjectKey, ServiceRoutes] = {}
        self._claims: dict[RouteKey, Route] = {}
        self._rivals: dict[RouteKey, dict[ObjectKey, Route]] = {}
        self._claimed: dict[Protocol, set[tuple[str, int]]] = {protocol: set() for protocol in Protocol}
        self._reached: dict[tuple[str, int], tuple[ObjectKey, ...]] = {}
        self._effective: dict[RouteKey, Route] = {}
        self._refused: dict[ObjectKey, tuple[Refusal, ...]] = {}
        self._dirty: set[ObjectKey] = set()
        self._touched: set[RouteKey] = set()

    def put(self, service: ObjectKey, found: ServiceRoutes) -> None:
        """Set what a Service asks for."""
        before = self._found.get(service, _NO_ROUTES)
        self._found[service] = found
        self._replace(service, before, found)

    def drop(self, service: ObjectKey) -> None:
        """Forget a Service; one that is not known is no error."""
        before = self._found.pop(service, None)
        if before is not None:
            self._replace(service, before, _NO_ROUTES)

    def _replace(self, service: ObjectKey, before: ServiceRoutes, after: ServiceRoutes) -> None:
        self._dirty.add(service)
        wanted = {route.key for route in after.routes}
        for route in before.routes:
            if route.key not in wanted:
                self._release(service, route.key)
        for route in after.routes:
            self._claim(service, route)
        was, now = _endpoints(before), _endpoints(after)
        if was != now:
            self._reach(service, was - now, now - was)

    def _claim(self, service: ObjectKey, route: Route) -> None:
        held = self._claims.get(route.key)
        if held is None:
            self._claims[route.key] = route
            self._claimed[route.key.protocol].add((route.key.vip, route.key.port))
            self._touched.add(route.key)
        elif _claimant(held) == service:
            self._claims[route.key] = route
            if held.address_class is not route.address_class:
                self._touched.add(route.key)  # refusals of endpoints that lead here name the class
        else:
            self._rivals.setdefault(route.key, {})[service] = route
            self._touched.add(route.key)

    def _release(self, service: ObjectKey, key: RouteKey) -> None:
        self._touched.add(key)
        rivals = self._rivals.get(key, {})
        if _claimant(self._claims[key]) != service:
            del rivals[service]
        elif rivals:
            heir, self._claims[key] = rivals.popitem()  # any of them: if there are several, settle elects
            self._dirty.add(heir)
        else:
            del self._claims[key]
            self._claimed[key.protocol].discard((key.vip, key.port))
        if not rivals:
            self._rivals.pop(key, None)

    def _reach(self, service: ObjectKey, gone: Iterable[Endpoint], new: Iterable[Endpoint]) -> None:
        """Keep the index of the Services behind which an endpoint stands."""
        for endpoint in gone:
            left = tuple(other for other in self._reached[endpoint] if other != service)
            if left:
                self._reached[endpoint] = left
            else:
                del self._reached[endpoint]
        only = (service,)
        for endpoint in new:
            others = self._reached.get(endpoint)
            self._reached[endpoint] = only if others is None else others + only

    def settle(self) -> Settled:
        """Decide about everything put and dropped since the last time, and tell what is different now."""
        for key in self._rivals.keys() & self._touched:
            self._elect(key)
        for key in self._touched:
            self._dirty.update(self._reached.get((key.vip, key.port), ()))
        changed: dict[RouteKey, Route | None] = {}
        for key in self._touched:
            if key not in self._claims and self._effective.pop(key, None) is not None:
                changed[key] = None
        refusals = {}
        for service in self._dirty:
            refused = self._decide(service, changed)
            if refused != self._refused.get(service, ()):
                refusals[service] = refused
                self._remember(service, refused)
        self._dirty = set()
        self._touched = set()
        return Settled(changed, refusals)

    def _elect(self, key: RouteKey) -> None:
        """Give a contested key to the Service that held it after the last settle, else to the smallest one."""
        rivals = self._rivals[key]
        holder = _claimant(self._claims[key])
        rivals[holder] = self._claims[key]
        effective = self._effective.get(key)
        before = None if effective is None else _claimant(effective)
        self._dirty.update(rivals)
        self._claims[key] = rivals.pop(before if before in rivals else min(rivals))

    def _remember(self, service: ObjectKey, refused: tuple[Refusal, ...]) -> None:
        if refused:
            self._refused[service] = refused
        else:
            del self._refused[service]

    def _decide(self, service: ObjectKey, changed: dict[RouteKey, Route | None]) -> tuple[Refusal, ...]:
        """Note the routes of one Service that come out differently, and give all its refusals."""
        found = self._found.get(service, _NO_ROUTES)
        refused = dict.fromkeys(found.refusals)
        for route in found.routes:
            if service in self._rivals.get(route.key, ()):
                refused[self._taken(service, route)] = None
                continue
            effective = route
            if not self._claimed[route.key.protocol].isdisjoint(_endpoints_of(route)):
                effective = self._without_loops(service, route, refused)
            if self._effective.get(route.key) != effective:
                self._effective[route.key] = changed[route.key] = effective
        return tuple(refused)

    def _without_loops(self, service: ObjectKey, route: Route, refused: dict[Refusal, None]) -> Route:
        claimed = self._claimed[route.key.protocol]
        for endpoint in dict.fromkeys((*route.endpoints, *(route.inside or ()))):
            if endpoint in claimed:
                refused[self._loop(service, route, endpoint)] = None
        endpoints = tuple(endpoint for endpoint in route.endpoints if endpoint not in claimed)
        inside = None if route.inside is None else tuple(endpoint for endpoint in route.inside if endpoint not in claimed)
        still_serving = tuple(endpoint for endpoint in route.still_serving if endpoint not in claimed)
        return replace(route, endpoints=endpoints, inside=inside, still_serving=still_serving)

    def _taken(self, service: ObjectKey, route: Route) -> Refusal:
        holder = _claimant(self._claims[route.key])
        reason = f"{route.key} ({route.address_class}) is held by Service {holder}; it is served here when that one leaves it"
        return Refusal(f"Service {service}", f"port {route.service_port.port!r}", reason)

    def _loop(self, service: ObjectKey, route: Route, endpoint: Endpoint) -> Refusal:
        key = RouteKey(endpoint.address, route.key.protocol, endpoint.port)
        held = self._claims[key]
        reason = f"endpoint {endpoint} is itself the {held.address_class} of Service {_claimant(held)}: connections would come back here"
        return Refusal(f"Service {service}", f"port {route.service_port.port!r}", reason)


def _endpoints(found: ServiceRoutes) -> frozenset[Endpoint]:
    return frozenset().union(*map(_endpoints_of, found.routes))


def _endpoints_of(route: Route) -> tuple[Endpoint, ...]:
    if route.inside is None and not route.still_serving:
        return route.endpoints
    return (*route.endpoints, *(route.inside or ()), *route.still_serving)
