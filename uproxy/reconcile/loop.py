"""The reconciler: what was seen of the API becomes open listeners and captured addresses.

Owns the order of things: fold -> policy -> plan -> open listeners -> one kernel transaction -> close. What
is decided is decided synchronously; what is done can be done again. Must not know sockets, nft or files.
Invariant: when a round has ended without an error, listeners and kernel are what the last state asks for.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar

from uproxy.core.leaving import Leaving
from uproxy.core.model import AddressClass
from uproxy.core.plan import Desired
from uproxy.core.policy import HealthCheck, NodeView, routes_of
from uproxy.core.state import Event, Put, State, fold
from uproxy.errors import RedirectError
from uproxy.pace import Pace
from uproxy.reconcile.bindings import Bindings
from uproxy.reconcile.serving import Serving
from uproxy.reconcile.wake import Occasion, Wake
from uproxy.sync_stats import Laps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from uproxy.admin.health import Health
    from uproxy.config import Config
    from uproxy.core.model import Node, ObjectKey, Refusal, Route, RouteKey, ServicePortName
    from uproxy.core.plan import Plan
    from uproxy.dataplane.listeners import Dataplane
    from uproxy.event_recorder import Reports
    from uproxy.reconcile.balancers import Balancers
    from uproxy.redirect.base import Redirect
    from uproxy.sync_stats import SyncStats

REFUSALS_LOGGED: Final = 20
"""Refusals logged by one batch: more would be a flood, and the metric counts them all."""
BATCH: Final = 250
"""Objects worked on between two looks at the clock: 5 ms at the most."""


Item = TypeVar("Item")


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _by_policy(silent: Iterable[Route]) -> dict[str, int]:
    """Count the ServicePorts that have endpoints, but none on this node, by the policy that asks for one here."""
    found: dict[str, set[ServicePortName]] = {"internal": set(), "external": set()}
    for route in silent:
        found["internal" if route.address_class is AddressClass.CLUSTER_IP else "external"].add(route.service_port)
    return {policy: len(ports) for policy, ports in found.items()}


class Reconciler:
    """Runs rounds for ever. offer() takes events, at any time; everything else happens in run()'s task.

    view: reads what this node is like now, given its Node object if one was seen; OSError is passed on.
    applied: called with the state that is in force now, after every round that ended well.
    checked: called then too, with what load balancers may ask about Services here and the node's addresses for node ports.
    """

    def __init__(  # noqa: PLR0917 - the parts that this one joins
        self,
        config: Config,
        view: Callable[[Node | None], NodeView],
        redirect: Redirect,
        dataplane: Dataplane,
        balancers: Balancers,
        health: Health,
        stats: SyncStats,
        reports: Reports,
        applied: Callable[[State], None] = lambda _: None,
        checked: Callable[[Mapping[ObjectKey, HealthCheck], tuple[str, ...]], None] = lambda *_: None,
    ) -> None:
        self._config = config
        self._read_view = view
        self._redirect = redirect
        self._dataplane = dataplane
        self._balancers = balancers
        self._health = health
        self._stats = stats
        self._reports = reports
        self._log = reports.log
        self._applied = applied
        self._checked = checked
        self._checks: dict[ObjectKey, HealthCheck] = {}
        self._started = time.time()
        self._triggers: list[float] = []
        self._wake = Wake(config.sync)
        self._inbox: list[Event] = []
        self._state = State()
        self._view = NodeView(config.node_name)
        self._desired = Desired()
        self._leaving = Leaving()
        self._serving = self._serve({})
        self._dirty: set[ObjectKey] = set()
        self._planned = self._viewed = False
        self._looking: asyncio.TimerHandle | None = None
        self._verify = False
        self._refusals: dict[ObjectKey, tuple[Refusal, ...]] = {}

    def offer(self, events: Sequence[Event]) -> None:
        """Take events in; a round follows soon."""
        self._inbox.extend(events)
        self._stats.queued(events, time.time())
        self._health.queued(time.monotonic())
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until cancelled. Raises UsageError when the redirect back end can never work here."""
        self._serving = self._serve(await self._start_redirect())
        self._dataplane.on_drained = self._serving.drained
        self._dataplane.on_held(self._serving.held)
        self._redirect.watch(self._lost)
        while True:
            occasion = await self._wake.wait()
            try:
                await self._round(occasion)
            except (RedirectError, OSError) as error:
                self._failed(error)
            else:
                self._wake.succeeded(retry=bool(self._serving.failed))

    def _serve(self, inherited: Mapping[RouteKey, int]) -> Serving:
        wanted: dict[RouteKey, Route] = {}
        bindings = Bindings(self._redirect, wanted, self._config.capture.local_ports, inherited)
        return Serving(
            wanted,
            self._dataplane,
            bindings,
            self._balancers,
            self._reports,
            keep_clients=self._may_keep_clients(),
            linger=self._config.capture.linger,
            released=self._wake.set,
        )

    def _may_keep_clients(self) -> bool:
        return self._redirect.keeps_clients and self._config.keep_client_address == "auto"

    def reconfigure(self, config: Config) -> None:
        """Work with other settings from now on: sync, keepClientAddress, and all that the view of the node is made from."""
        self._config = config
        self._wake.use(config.sync)
        self._serving.keep_clients(allowed=self._may_keep_clients())
        self.look_again()

    async def _start_redirect(self) -> Mapping[RouteKey, int]:
        """Take over what the kernel has, trying again while that fails; traffic that is captured already just waits."""
        while True:
            try:
                return await self._redirect.start()
            except RedirectError as error:
                await asyncio.sleep(self._failed(error))

    async def _round(self, occasion: Occasion) -> None:
        started = time.monotonic()
        pace, laps = Pace(self._config.sync.slice), Laps()
        await self._take_events(pace)
        if not self._state.complete:
            self._health.not_listed(time.monotonic())
            return
        moved = self._look_at_node(occasion)
        changed = await self._decide(pace)
        plan = self._serving.plan(changed, self._view.local_addresses, retry=moved or occasion is not Occasion.CHANGE)
        laps.end("plan")
        await self._act(plan, pace, laps, check=occasion is Occasion.RESYNC)
        self._finished(plan, started, laps)

    async def _take_events(self, pace: Pace) -> None:
        events, self._inbox = self._inbox, []
        self._stats.taken()
        for batch in _batches(events):
            self._triggers += [event.triggered for event in batch if isinstance(event, Put) and event.triggered > self._started]
            self._state, change = fold(self._state, batch)
            self._dirty |= change.services
            if self._config.node_name in change.nodes:
                self._planned = False
            await pace.turn()

    def _look_at_node(self, occasion: Occasion) -> bool:
        """Read what the node is like, at first, when its object or addresses changed and at each resync; tell whether addresses differ.

        If anything differs, every Service may.
        """
        if self._planned and occasion is not Occasion.RESYNC:
            return False
        node = self._state.nodes.get(self._config.node_name)
        self._health.node_is_eligible = node is None or node.eligible
        view = self._read_view(node)
        moved = view.local_addresses != self._view.local_addresses
        if view != self._view or not self._viewed:
            self._viewed = True
            self._view = view
            self._dirty.update(self._state.services)
        self._planned = True
        return moved

    async def _decide(self, pace: Pace) -> dict[RouteKey, Route | None]:
        """Derive the routes of every Service that may have other ones now; give those that differ.

        In the order of their keys, because of two new Services that claim one address the smaller one gets it.
        """
        dirty, self._dirty = sorted(self._dirty), set()
        changed: dict[RouteKey, Route | None] = {}
        for batch in _batches(dirty):
            for key in batch:
                service = self._state.services.get(key)
                slices = tuple(self._state.slices.get(key, {}).values())
                left = self._leaving.compare(key, service, slices)
                if left is not None:
                    self._dataplane.drain(left)
                self._checks.pop(key, None)
                if service is None:
                    self._desired.drop(key)
                    continue
                found = routes_of(service, slices, self._view)
                self._desired.put(key, found)
                if found.health_check:
                    self._checks[key] = found.health_check
            settled = self._desired.settle()
            changed.update(settled.changed)
            self._report(settled.refusals)
            await pace.turn()
        return changed

    async def _act(self, plan: Plan, pace: Pace, laps: Laps, *, check: bool) -> None:
        """Carry out a plan: endpoints first, for they need no kernel; then open, capture, close."""
        self._serving.update(plan.update)
        await self._serving.open(plan.open, self._view.local_addresses, pace)
        self._serving.refuse(plan.close)
        laps.end("listen")
        try:
            await self._capture(check=check or self._verify)
            laps.end("program")
        finally:
            self._serving.close(plan.close)

    async def _capture(self, *, check: bool) -> None:
        """Make the kernel agree; look first at what it has when somebody may have removed something."""
        if check:
            self._verify = False
            if not await self._redirect.verify():
                self._stats.repairs += 1
                self._log.warning("capture_repaired", redirect=self._redirect.name, reason="rules, elements or routes of ours were missing")
                self._serving.stale = True
        if self._serving.stale:
            await self._redirect.apply(self._serving.capture(self._view.local_addresses))
            self._stats.applies += 1
            self._serving.captured()

    def _finished(self, plan: Plan, started: float, laps: Laps) -> None:
        now, unix_now = time.monotonic(), time.time()
        self._stats.synced(now - started, unix_now)
        triggers, self._triggers = self._triggers, []
        for triggered in triggers:
            self._stats.programming.add(max(0.0, unix_now - triggered))
        self._stats.failed_listeners = len(self._serving.failed)
        self._stats.services = len(self._state.services)
        self._stats.no_local_endpoints = _by_policy(self._serving.silent.values())
        self._health.synced(now, more=bool(self._inbox))
        if plan.open or plan.update or plan.close:
            self._log.info(
                "synced",
                opened=len(plan.open) - len(self._serving.failed),
                updated=len(plan.update),
                closed=len(plan.close),
                milliseconds=round(1000 * (now - started)),
                **laps.milliseconds,
            )
        self._applied(self._state)
        self._checked(self._checks, self._view.node_port_addresses)

    def _failed(self, error: Exception) -> float:
        """Note a failed sync; give the seconds until the next try."""
        pause = self._wake.failed()
        self._stats.failures += 1
        self._serving.stale = True
        self._health.failed(time.monotonic(), str(error))
        self._log.warning("sync_failed", reason=error, retry_seconds=round(pause, 1))
        return pause

    def _report(self, refusals: Mapping[ObjectKey, tuple[Refusal, ...]]) -> None:
        """Log what is refused now and was not before."""
        fresh = [refusal for service, now in refusals.items() for refusal in now if refusal not in self._refusals.get(service, ())]
        for refusal in fresh[:REFUSALS_LOGGED]:
            self._log.warning("refused", subject=refusal.subject, field=refusal.field, reason=refusal.reason)
        if len(fresh) > REFUSALS_LOGGED:
            self._log.warning("refused_more", number=len(fresh) - REFUSALS_LOGGED)
        for service, now in refusals.items():
            self._stats.refusals += len(now) - len(self._refusals.pop(service, ()))
            if now:
                self._refusals[service] = now

    def look_again(self) -> None:
        """Take note that the node's addresses or routes changed: it is looked at in a while, for such changes come in bursts."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(self._config.sync.debounce_limit, self._look_soon)

    def _look_soon(self) -> None:
        self._looking = None
        self._planned = False
        self._wake.set()

    def _lost(self) -> None:
        """Take note that somebody else removed what is ours."""
        self._verify = True
        self._wake.set()
