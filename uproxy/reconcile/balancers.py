"""One Balancer for each list of endpoints that routes share.

Owns which routes share one: those of the same ServicePort, family and class (internal or external), whose
endpoints are the same by construction. Session affinity is shared more widely, by the whole ServicePort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from uproxy.core.balance import AffinityTable, Balancer, Ejector
from uproxy.core.model import AddressClass, Family, Route, ServicePortName, family_of

if TYPE_CHECKING:
    import random

    from uproxy.core.model import RouteKey


class _Share(NamedTuple):
    service_port: ServicePortName
    family: Family
    internal: bool


class Balancers:
    """Balancers by what shares them; one is dropped with the last route that uses it."""

    def __init__(self, ejector: Ejector, affinity: AffinityTable, rng: random.Random) -> None:
        self._ejector = ejector
        self._affinity = affinity
        self._rng = rng
        self._balancers: dict[_Share, Balancer] = {}
        self._users: dict[_Share, set[RouteKey]] = {}
        self._share_of: dict[RouteKey, _Share] = {}

    def use(self, route: Route) -> Balancer:
        """Give the route's Balancer, with the route's endpoints taken over."""
        share = _Share(route.service_port, family_of(route.key.vip), route.address_class is AddressClass.CLUSTER_IP)
        if self._share_of.get(route.key) != share:
            self.leave(route.key)
            self._share_of[route.key] = share
            self._users.setdefault(share, set()).add(route.key)
        balancer = self._balancers.get(share)
        if balancer is None:
            balancer = self._balancers[share] = Balancer(route.service_port, self._ejector, self._affinity, self._rng)
        balancer.set(route.endpoints, route.affinity_seconds)
        return balancer

    def leave(self, key: RouteKey) -> None:
        """Note that a route is no longer served; one that is not known is no error."""
        share = self._share_of.pop(key, None)
        if share is None:
            return
        users = self._users[share]
        users.discard(key)
        if not users:
            del self._users[share], self._balancers[share]
