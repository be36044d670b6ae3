"""One Balancer for each list of endpoints that routes share.

Owns which routes share one: those of the same ServicePort and family that lead the same clients (all of an internal
address, those outside or those inside of an external one) to the same endpoints by construction. Session affinity is
shared more widely, by the whole ServicePort.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from uproxy.core.balance import AffinityTable, Balancer, Ejector, Split
from uproxy.core.loads import Loads
from uproxy.core.model import AddressClass, Family, Route, ServicePortName, family_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from uproxy.core.balance import Balancing
    from uproxy.core.model import Endpoint, RouteKey


class _Side(Enum):
    """Whose endpoints a list holds."""

    INTERNAL = "clients of an internal address"
    OUTSIDE = "clients of an external address"
    INSIDE = "pods and the node itself, at an external address under policy Local"


class _Share(NamedTuple):
    service_port: ServicePortName
    family: Family
    side: _Side


class Balancers:
    """Balancers by what shares them; one is dropped with the last route that uses it. is_inside: tells pods and the node itself."""

    def __init__(
        self, ejector: Ejector, affinity: AffinityTable, rng: random.Random, is_inside: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._ejector = ejector
        self._affinity = affinity
        self._rng = rng
        self._is_inside = is_inside
        self._loads = Loads()
        self._balancers: dict[_Share, Balancer] = {}
        self._users: dict[_Share, set[RouteKey]] = {}
        self._shares_of: dict[RouteKey, tuple[_Share, ...]] = {}

    def use(self, route: Route) -> Balancing:
        """Give the route's Balancer, with the route's endpoints taken over."""
        family = family_of(route.key.vip)
        side = _Side.INTERNAL if route.address_class is AddressClass.CLUSTER_IP else _Side.OUTSIDE
        share, inner = _Share(route.service_port, family, side), _Share(route.service_port, family, _Side.INSIDE)
        self._join(route.key, (share,) if route.inside is None else (share, inner))
        outside = self._with(share, route.endpoints, route)
        return outside if route.inside is None else Split(outside, self._with(inner, route.inside, route), self._is_inside)

    def _with(self, share: _Share, endpoints: tuple[Endpoint, ...], route: Route) -> Balancer:
        balancer = self._balancers.get(share)
        if balancer is None:
            balancer = self._balancers[share] = Balancer(route.service_port, self._ejector, self._affinity, self._rng, self._loads)
        balancer.set(endpoints, route.affinity_seconds, least_connections=route.options.least_connections)
        return balancer

    def leave(self, key: RouteKey) -> None:
        """Note that a route is no longer served; one that is not known is no error."""
        self._join(key, ())

    def _join(self, key: RouteKey, shares: tuple[_Share, ...]) -> None:
        before = self._shares_of.pop(key, ())
        for share in shares:
            self._users.setdefault(share, set()).add(key)
        if shares:
            self._shares_of[key] = shares
        for share in before:
            if share not in shares:
                self._drop(share, key)

    def _drop(self, share: _Share, key: RouteKey) -> None:
        users = self._users[share]
        users.discard(key)
        if not users:
            del self._users[share]
            self._balancers.pop(share).set((), None)
