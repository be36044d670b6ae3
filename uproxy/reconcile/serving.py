"""What is served now, and carrying out a plan: listeners opened, updated and closed.

Owns which routes are wanted, which of them have a listener and which could not get one. Must not know why a
route is wanted. Invariant: a route is running exactly while the data plane has its listener; a key that is
neither running nor draining has no local port.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from uproxy.core.model import ObjectKey, Protocol, Route, RouteKey
from uproxy.core.plan import Plan, diff
from uproxy.dataplane.deadlines import Deadlines
from uproxy.errors import ListenError
from uproxy.event_recorder import ClusterEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from uproxy.core.model import ServicePortName
    from uproxy.dataplane.listeners import Dataplane
    from uproxy.event_recorder import Reports
    from uproxy.pace import Pace
    from uproxy.reconcile.balancers import Balancers
    from uproxy.reconcile.bindings import Bindings
    from uproxy.redirect.base import Capture


class Serving:
    """The wanted routes and the listeners behind them.

    keep_clients: whether upstream connections may carry the client's address at all.
    wanted: every effective route, also those without endpoints; bindings must have been made over it.
    linger: seconds that a capture stays after the last connection. released: called when one can go.
    stale: what the kernel captures may no longer be what capture() gives.
    silent: the routes whose clients find no endpoint here, though there are some elsewhere.
    """

    def __init__(
        self,
        wanted: dict[RouteKey, Route],
        dataplane: Dataplane,
        bindings: Bindings,
        balancers: Balancers,
        reports: Reports,
        *,
        keep_clients: bool,
        linger: float,
        released: Callable[[], None],
    ) -> None:
        self.wanted = wanted
        self.running: dict[RouteKey, Route] = {}
        self.failed: dict[RouteKey, str] = {}
        self.silent: dict[RouteKey, Route] = {}
        self.stale = True
        self._dataplane = dataplane
        self._bindings = bindings
        self._balancers = balancers
        self._log = reports.log
        self._recorder = reports.recorder
        self._keep_clients = keep_clients
        self._released = released
        self._loop = asyncio.get_running_loop()
        self._lingering: Deadlines[RouteKey] = Deadlines(self._loop, linger, self._release)

    def plan(self, changed: Mapping[RouteKey, Route | None], local_addresses: frozenset[str], *, retry: bool) -> Plan:
        """Take over the changed routes and say what to do; retry: also about those that failed before."""
        for key, route in changed.items():
            if route is None:
                self.failed.pop(key, None)
                self.stale |= self.wanted.pop(key, None) is not None
            else:
                self.stale |= key not in self.wanted
                self.wanted[key] = route
            if route is not None and route.silent:
                self.silent[key] = route
            else:
                self.silent.pop(key, None)
        again = {key: self.wanted[key] for key in self.failed} if retry else {}
        if retry:
            again.update(self._misplaced(local_addresses))
        return diff(self.running, {**again, **changed})

    def _misplaced(self, local_addresses: frozenset[str]) -> dict[RouteKey, Route]:
        """Give up listeners whose VIP became an address of the node, or ceased to be one, to be bound anew the other way."""
        misplaced = {key: route for key, route in self.running.items() if not self._bindings.fits(key, local_addresses)}
        for key in misplaced:
            self.close((key,))
            self._bindings.release(key)
        return misplaced

    def update(self, routes: Collection[Route]) -> None:
        """Put new endpoints behind listeners that stay.

        Routes share their endpoints, so first all that lose the last one here drop who comes: who is in still gets it.
        """
        for route in routes:
            if route.silent and not self.running[route.key].silent:
                with suppress(ListenError):  # that update() below meets as well
                    self._dataplane.fall_silent(route.key, route.admitted)
        for route in routes:
            self.running[route.key] = route
            balancer, keeps = self._balancers.use(route), self._keeps(route)
            try:
                self._dataplane.update(
                    route.key, balancer, keep_client_address=keeps, admitted=route.admitted, options=route.options,
                    still_serving=route.still_serving,
                )  # fmt: skip
            except ListenError as error:
                self.close((route.key,))
                self._give_up(route, str(error))

    def keep_clients(self, *, allowed: bool) -> None:
        """Let new connections carry the client's address from now on, or not."""
        if allowed != self._keep_clients:
            self._keep_clients = allowed
            self.update(tuple(self.running.values()))

    async def open(self, routes: Iterable[Route], local_addresses: frozenset[str], pace: Pace) -> None:
        """Open listeners; one that fails is noted, logged once per reason, and affects nothing else."""
        for route in routes:
            self.stale = True
            try:
                binding = self._bindings.bind(route.key, local_addresses)
                self._lingering.discard(route.key)
                balancer, keeps = self._balancers.use(route), self._keeps(route)
                self._dataplane.open(
                    binding, route.service_port, balancer, keep_client_address=keeps, admitted=route.admitted, options=route.options
                )
            except ListenError as error:
                self._give_up(route, str(error))
            else:
                self.running[route.key] = route
                if self.failed.pop(route.key, None) is not None:
                    self._log.info("listening_again", address=route.key, service_port=route.service_port)
            await pace.turn()

    def held(self, service_port: ServicePortName) -> None:
        """Tell the cluster that a connection waits for an endpoint: whoever scales from zero may act on it."""
        key = ObjectKey(service_port.namespace, service_port.name)
        note = f"a connection to the port {service_port.port!r} waits for an endpoint"
        self._recorder.record(ClusterEvent("Normal", "NeedPods", "Hold", "Service", key, note))

    def _give_up(self, route: Route, reason: str) -> None:
        key, (namespace, name, *_) = route.key, route.service_port
        self._bindings.release(key)
        self._balancers.leave(key)
        if self.failed.get(key) != reason:
            self._log.warning("listen_failed", address=key, reason=reason)
            self._recorder.record(ClusterEvent("Warning", "FailedToListen", "Listen", "Service", ObjectKey(namespace, name), reason))
        self.failed[key] = reason

    def refuse(self, keys: Iterable[RouteKey]) -> None:
        """Let the kernel refuse new connections while the listeners still stand. UDP has no connections to wait for."""
        for key in keys:
            self.stale = True
            if key.protocol is Protocol.TCP:
                self._bindings.drain(key)
            else:
                self._bindings.release(key)

    def close(self, keys: Iterable[RouteKey]) -> None:
        """Close listeners, whose endpoints are for who is in already. Their capture goes some time after their last connection."""
        for key in keys:
            self.running.pop(key, None)
            left = self._dataplane.close(key)
            self._balancers.leave(key)
            if not left:
                self.drained(key)

    def drained(self, key: RouteKey) -> None:
        """Note that the last connection of a closed listener ended: the kernel may still be sending the tail of a reply."""
        if self._bindings.is_draining(key):
            self._lingering.add(key, self._loop.time())

    def _release(self, key: RouteKey) -> None:
        if self._bindings.is_draining(key) and not self._dataplane.connections(key):
            self._bindings.release(key)
            self.stale = True
            self._released()

    def capture(self, local_addresses: frozenset[str]) -> Capture:
        """Give what the kernel has to deliver now; what changes from here on, also while the kernel is told, makes it stale again."""
        self.stale = False
        return self._bindings.capture({key.vip for key in self.wanted}, local_addresses)

    def captured(self) -> None:
        """Note that the kernel agrees: what it remembered of an earlier run beyond that is gone from it."""
        self._bindings.forget_inherited()

    def _keeps(self, route: Route) -> bool:
        return self._keep_clients and route.keep_client_address
