"""The composition root: builds every part, runs them together, and ends them in order.

Owns the process: its lock, descriptors, signals and tasks. Decides nothing about traffic. Every task lives in
one TaskGroup; the first signal closes the listeners and lets connections drain, a second one ends the wait.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import uvloop
from msgspec.structs import replace

from uproxy import __version__, lock, node_view, oom_score, origins
from uproxy.admin.health import Health
from uproxy.admin.metrics import Measured, Metrics
from uproxy.admin.server import HealthPages, MetricsPages, serve_admin
from uproxy.admin.service_health import ServiceHealth
from uproxy.api_stats import ApiStats
from uproxy.config_documents import configz
from uproxy.config_stats import ConfigStats
from uproxy.config_watch import ConfigWatch
from uproxy.core.balance import AffinityTable, Ejector
from uproxy.core.model import ObjectKey
from uproxy.core.networks import Networks
from uproxy.dataplane.context import Context
from uproxy.dataplane.counters import Counters, TrafficRegister
from uproxy.dataplane.descriptors import Descriptors, descriptors_in_use, raise_limit
from uproxy.dataplane.flows import Flows
from uproxy.dataplane.listeners import Dataplane
from uproxy.dataplane.reactor import Reactor
from uproxy.dataplane.udp_source_ports import SourcePorts
from uproxy.errors import ListenError, UsageError
from uproxy.event_recorder import ClusterEvent, Reports
from uproxy.log import configure
from uproxy.loop_probe import LoopProbe
from uproxy.notify import Notifier
from uproxy.origins import Cluster, Folder, Origin
from uproxy.reconcile.balancers import Balancers
from uproxy.reconcile.loop import Reconciler
from uproxy.redirect.cleanup import clean_all
from uproxy.redirect.nftables import Nftables
from uproxy.redirect.none import NoRedirect
from uproxy.redirect.placement import ClientAddresses
from uproxy.redirect.routes import Routes
from uproxy.sync_stats import SyncStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uproxy.config import Config
    from uproxy.config_watch import ConfigFile
    from uproxy.core.model import Node
    from uproxy.core.policy import NodeView
    from uproxy.core.state import Event, State
    from uproxy.kube_proxy_config import Remark
    from uproxy.log import Log
    from uproxy.redirect.base import Redirect
    from uproxy.sources.kubernetes.access import Access


GC_THRESHOLDS: Final = (20_000, 50, 100)
"""When the cyclic garbage collector runs, in net allocations of containers. Values and connections have no cycles;
what has some (exceptions, tasks) is young garbage, 3 ms per 20,000. Python's own thresholds make a full collection
likely while 10,000 Services are read: 150 ms in which nothing moves."""


SWITCH_INTERVAL: Final = 0.001
"""Seconds after which a thread that prepares rules or reads files lets traffic go on; Python's own 5 ms add up to 50."""


def run(config: Config, remarks: list[Remark], file: ConfigFile) -> int:
    """Serve until a signal says otherwise; give the exit code.

    remarks: what of the settings comes to nothing. file: where they come from, to be followed.
    """
    access = origins.check(config, os.environ)
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL)
    config = replace(config, node_name=config.node_name or socket.gethostname().lower())
    log = configure(config.logging)
    with lock.acquire(), asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
        return runner.run(_serve(config, access, log, Changes(file, remarks)))


def clean() -> int:
    """Remove all that any uproxy installs in the kernel and say what was there; raises RedirectError for what stays."""
    cleaned = clean_all()
    for removed in cleaned.removed or ("nothing was there",):
        print(removed)  # noqa: T201 - what a command line program is for
    cleaned.raise_if_failed()
    return 0


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    return uvloop.new_event_loop if config.loop == "uvloop" else asyncio.new_event_loop


class Changes(NamedTuple):
    """Where settings come from, and what of them came to nothing at the start."""

    file: ConfigFile
    remarks: list[Remark]


async def _serve(config: Config, access: Access | None, log: Log, changes: Changes) -> int:
    oom_score.adjust(config.oom_score_adj, log)
    with ExitStack() as owned:
        app = _App(config, access, log, owned, changes)
        try:
            await app.run()
        except BaseExceptionGroup as group:
            # One of the tasks found that it can never work: its message is the one line that the operator needs. Not by
            # except*, which before CPython 3.11.4 wraps what is raised in it into a group again.
            mistakes, others = group.split((UsageError, ListenError))
            if mistakes is None or others is not None:
                raise
            raise _first_leaf(mistakes) from None
    return app.exit_code


def _first_leaf(error: BaseException) -> BaseException:
    return _first_leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


class _App:
    """All parts of one process, and the order in which they end."""

    def __init__(self, config: Config, access: Access | None, log: Log, owned: ExitStack, changes: Changes) -> None:
        self.exit_code = 0
        self._config = config
        self._config_stats = ConfigStats()
        self._first, self._second = asyncio.Event(), asyncio.Event()
        self._watch = ConfigWatch(changes.file, config, log, self._config_stats, apply=self._reconfigure, end=self._end)
        self._watch.remark(changes.remarks)
        self._log = log
        self._notifier = Notifier.from_environment(os.environ)
        self._loop = asyncio.get_running_loop()
        self._health = Health(2 * config.sync.resync, time.monotonic())
        self._stats = SyncStats()
        self._api = ApiStats()
        self._counters = Counters()
        self._descriptors = Descriptors(raise_limit(), descriptors_in_use(), config.descriptors.reserve, config.udp.descriptor_share)
        self._client_addresses = ClientAddresses()
        owned.callback(self._client_addresses.close)
        self._redirect = _redirect(config, log)
        owned.callback(self._redirect.close)
        reactor = Reactor(self._loop, log, config.tcp.receive_buffer)
        owned.callback(reactor.stop)
        self._ejector = Ejector(config.ejection.failures, config.ejection.base, config.ejection.limit)
        self._affinity = AffinityTable(config.affinity.max_entries)
        self._dataplane = Dataplane(self._context(reactor))
        owned.callback(self._dataplane.shut_down)
        self._inside = Networks()
        balancers = Balancers(self._ejector, self._affinity, random.Random(), lambda client: client in self._inside)
        self._origin: Origin = Cluster(config, access, log, self._api, self._offer) if access else Folder(config, log, self._offer)
        self._reports = Reports(log, self._origin.recorder)
        self._service_health = ServiceHealth(config, self._health, self._reports)
        self._reconciler = Reconciler(
            config, self._view, self._redirect, self._dataplane, balancers, self._health, self._stats, self._reports, self._applied,
            self._service_health.offer,
        )  # fmt: skip
        self._probe = LoopProbe(config.metrics.loop_probe)
        self._metrics = self._measured()

    def _context(self, reactor: Reactor) -> Context:
        return Context(
            loop=self._loop,
            reactor=reactor,
            config=self._config,
            log=self._log,
            ejector=self._ejector,
            counters=self._counters,
            traffic=TrafficRegister(),
            client_addresses=self._client_addresses,
            descriptors=self._descriptors,
            flows=Flows(self._loop, self._config.udp, self._descriptors.flow_limit, self._counters.flow_evictions),
            udp_source_ports=SourcePorts(*self._config.udp.source_ports),
        )

    def _offer(self, events: Sequence[Event]) -> None:
        self._reconciler.offer(events)

    def _applied(self, state: State) -> None:
        self._notifier.ready()
        self._origin.applied(state)

    def _view(self, node: Node | None) -> NodeView:
        self._client_addresses.set_pod_cidrs(node.pod_cidrs if node else (), node_view.detection(self._config))
        view = node_view.read(self._config, node)
        self._inside = Networks(view.inside)
        return view

    async def run(self) -> None:
        """Serve until a signal; then drain."""
        first, second = self._first, self._second
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, lambda: second.set() if first.is_set() else first.set())
        self._log.info(
            "starting",
            version=__version__,
            node=self._config.node_name,
            redirect=self._redirect.name,
            loop=self._config.loop,
            descriptors=self._descriptors.budget,
        )
        self._reports.recorder.record(
            ClusterEvent("Normal", "Starting", "StartKubeProxy", "Node", ObjectKey("", self._config.node_name), f"uproxy {__version__}")
        )
        self._client_addresses.watch(self._reconciler.look_again)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._admin(), name="admin"),
                tasks.create_task(self._notifier.feed_watchdog(), name="watchdog"),
                tasks.create_task(self._service_health.run(), name="service health"),
                tasks.create_task(self._origin.run(), name="source"),
                tasks.create_task(self._reconciler.run(), name="reconciler"),
                tasks.create_task(self._probe.run(), name="probe"),
                tasks.create_task(self._watch.run(), name="configuration"),
            ]
            await first.wait()
            self._notifier.stopping()
            # The servers and the watchdog go on: this proxy drains, and is alive.
            for task in running[3:]:
                task.cancel()
            await self._drain(second)
            for task in running[:3]:
                task.cancel()

    def _measured(self) -> Metrics:
        measured = Measured(
            settings=self._config.metrics,
            counters=self._counters,
            carried=self._dataplane,
            stats=self._stats,
            descriptors=self._descriptors,
            affinity=self._affinity,
            ejector=self._ejector,
            source=self._origin,
            api=self._api,
            probe=self._probe,
            configuration=self._config_stats,
        )
        return Metrics(measured)

    async def _admin(self) -> None:
        health = HealthPages(self._health, self._metrics, self._api)
        metrics = MetricsPages(self._metrics, lambda: configz(self._config))
        await serve_admin(self._config, health.routes(), metrics.routes(), self._reports)

    def _reconfigure(self, config: Config) -> None:
        """Go on with other settings: those of config_watch.LIVE differ."""
        if config.logging != self._config.logging:
            configure(config.logging)
        self._config = config
        self._health.patience = 2 * config.sync.resync
        self._metrics.use(config.metrics)
        self._service_health.reconfigure(config)
        self._reconciler.reconfigure(config)

    def _end(self) -> None:
        """Drain and end, to be started again with other settings."""
        self.exit_code = 1
        self._first.set()

    async def _drain(self, second: asyncio.Event) -> None:
        """Let handshakes end, stop listening, wait for open connections to end: each for its time or until a second signal."""
        self._health.draining()
        self._dataplane.finish_handshakes()
        await _first_of(second, within=self._config.drain_handshake)
        self._dataplane.stop_listening()
        ended = asyncio.Event()
        self._dataplane.on_drained = lambda _: ended.set() if not self._dataplane.open_connections else None
        self._log.info("draining", connections=self._dataplane.open_connections, seconds=self._config.drain_timeout)
        if self._dataplane.open_connections:
            await _first_of(ended, second, within=self._config.drain_timeout)
        self._log.info("stopped", connections_cut=self._dataplane.open_connections)


async def _first_of(*events: asyncio.Event, within: float) -> None:
    """Wait until one of the events is set, or so many seconds."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    _, left = await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for wait in left:
        wait.cancel()


def _redirect(config: Config, log: Log) -> Redirect:
    if config.redirect == "nftables":
        return Nftables(config.capture, log, beside_kube_proxy=bool(config.service_proxy_name))
    return Routes(log) if config.redirect == "routes" else NoRedirect()
