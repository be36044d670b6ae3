"""A reconciler with a real data plane on loopback, fed by hand."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from uproxy.admin.health import Health
from uproxy.config import CaptureSettings, Config, SyncSettings
from uproxy.config_rules import Duration
from uproxy.core.balance import AffinityTable, Ejector
from uproxy.core.model import Endpoint, EndpointSlice, Family, Kind, ObjectKey, Protocol, Service, ServicePort, SliceEndpoint, SlicePort
from uproxy.core.policy import NodeView
from uproxy.core.state import Event, Listed, Put
from uproxy.dataplane.context import Context
from uproxy.dataplane.counters import Counters, TrafficRegister
from uproxy.dataplane.descriptors import Descriptors, descriptors_in_use, raise_limit
from uproxy.dataplane.flows import Flows
from uproxy.dataplane.listeners import Dataplane
from uproxy.dataplane.reactor import Reactor
from uproxy.dataplane.udp_source_ports import SourcePorts
from uproxy.dataplane.upstream import NodeAddressOnly
from uproxy.event_recorder import NoRecorder, Reports
from uproxy.log import configure
from uproxy.reconcile.balancers import Balancers
from uproxy.reconcile.loop import Reconciler
from uproxy.sync_stats import SyncStats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from uproxy.core.model import Node
    from uproxy.core.policy import HealthCheck
    from uproxy.redirect.base import Redirect

LINGER = 0.3
LISTED: tuple[Event, ...] = tuple(Listed(kind) for kind in Kind)
FAST = SyncSettings(
    debounce=Duration(0.005), debounce_limit=Duration(0.05), resync=Duration(60), retry_base=Duration(0.05), retry_limit=Duration(0.1)
)


def service(name: str, vip: str, port: int) -> Put:
    """Make the event of a Service with one TCP port."""
    return Put(Service(ObjectKey("default", name), (vip,), (ServicePort("", Protocol.TCP, port),)))


def slice_of(name: str, *ports: int) -> Put:
    """Make the event of its slices' endpoints: 127.0.0.1 with each of these ports."""
    key = ObjectKey("default", name)
    endpoints = (SliceEndpoint("127.0.0.1"),) if ports else ()
    return Put(EndpointSlice(key, key, Family.IPV4, endpoints, tuple(SlicePort("", Protocol.TCP, port) for port in ports)))


class Stand:
    """What a test asks for. checks: what load balancers may ask, as handed over by the last round.

    on_look: called when a round looks at the node, which it does at the first one and when the Node object changes.
    """

    def __init__(self, reconciler: Reconciler, dataplane: Dataplane, stats: SyncStats, health: Health) -> None:
        self.reconciler = reconciler
        self.dataplane = dataplane
        self.stats = stats
        self.health = health
        self.checks: dict[ObjectKey, HealthCheck] = {}
        self.on_look: Callable[[], None] = lambda: None

    async def offer(self, *events: Event) -> None:
        """Offer events and wait until the round that took them has ended."""
        rounds = self.stats.durations.total
        self.reconciler.offer(events)
        await until(lambda: self.stats.durations.total > rounds)


@asynccontextmanager
async def running(redirect: Redirect, view: NodeView | None = None, sync: SyncSettings = FAST) -> AsyncIterator[Stand]:
    """Run a reconciler on the test's own loop until the block ends."""
    loop = asyncio.get_running_loop()
    config = replace(Config(), sync=sync, node_name="node", capture=CaptureSettings(linger=Duration(LINGER)))
    log = configure(config.logging)
    counters = Counters()
    descriptors = Descriptors(raise_limit(), descriptors_in_use(), config.descriptors.reserve, config.udp.descriptor_share)
    reactor = Reactor(loop, log, config.tcp.receive_buffer)
    ejector = Ejector(0, 1, 1)
    context = Context(
        loop=loop,
        reactor=reactor,
        config=config,
        log=log,
        ejector=ejector,
        counters=counters,
        traffic=TrafficRegister(),
        client_addresses=NodeAddressOnly(),
        descriptors=descriptors,
        flows=Flows(loop, config.udp, descriptors.flow_limit, counters.flow_evictions),
        udp_source_ports=SourcePorts(*config.udp.source_ports),
    )
    dataplane = Dataplane(context)
    health, stats = Health(60, time.monotonic()), SyncStats()
    balancers = Balancers(ejector, AffinityTable(1000), random.Random(1))

    def look(_node: Node | None) -> NodeView:
        stand.on_look()
        return view or NodeView("node", loopback_vips=True)

    def check(checks: Mapping[ObjectKey, HealthCheck], _addresses: tuple[str, ...]) -> None:
        stand.checks = dict(checks)

    reconciler = Reconciler(config, look, redirect, dataplane, balancers, health, stats, Reports(log, NoRecorder()), checked=check)
    stand = Stand(reconciler, dataplane, stats, health)
    task = asyncio.create_task(reconciler.run())
    try:
        yield stand
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        dataplane.shut_down()
        reactor.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it looks at numbers that nobody announces
            await asyncio.sleep(0.002)


class Greeter(asyncio.Protocol):
    """An endpoint's side of a connection: greets with the endpoint's name, then echoes."""

    def __init__(self, name: bytes, open_transports: set[asyncio.Transport]) -> None:
        self._name = name
        self._open = open_transports
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(transport)
        transport.write(self._name + b"\n")

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._open.discard(self._transport)


@asynccontextmanager
async def endpoint(name: bytes) -> AsyncIterator[Endpoint]:
    """Serve an endpoint on loopback."""
    transports: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Greeter(name, transports), "127.0.0.1", 0)
    try:
        yield Endpoint(*server.sockets[0].getsockname())
    finally:
        server.close()
        for transport in tuple(transports):
            transport.abort()
        await asyncio.sleep(0)


class Client:
    """One open connection to a service address, and the greeting of the endpoint behind it."""

    def __init__(self, greeting: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.greeting = greeting
        self._reader = reader
        self._writer = writer

    async def echoes(self, data: bytes) -> bool:
        """Tell whether data comes back."""
        self._writer.write(data)
        return await asyncio.wait_for(self._reader.readexactly(len(data)), 10) == data


@asynccontextmanager
async def connected(vip: str, port: int) -> AsyncIterator[Client]:
    """Connect, and close at the end."""
    reader, writer = await asyncio.open_connection(vip, port)
    try:
        yield Client((await asyncio.wait_for(reader.readline(), 10)).strip(), reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def greeting(vip: str, port: int) -> bytes:
    """Connect and give the name of the endpoint that answers."""
    async with connected(vip, port) as client:
        return client.greeting


async def is_refused(vip: str, port: int) -> bool:
    """Tell whether a connection is refused."""
    try:
        await greeting(vip, port)
    except ConnectionRefusedError:
        return True
    return False
