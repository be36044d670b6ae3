"""The reconciler and UDP: which flows a round ends, and which it leaves alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from tests.reconcile.stand import LISTED, running, until
from uproxy.core.model import Endpoint, EndpointSlice, Family, Kind, ObjectKey, Protocol, Service, ServicePort, SliceEndpoint, SlicePort
from uproxy.core.state import Delete, Put
from uproxy.redirect.none import NoRedirect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VIP, PORT = "127.0.101.3", 10853


class Answering(asyncio.DatagramProtocol):
    """An endpoint that answers everything with its name."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, _: bytes, peer: tuple[str, int]) -> None:
        self._transport.sendto(self._name, peer)


class Asking(asyncio.DatagramProtocol):
    """A client with one socket for all that it asks."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, _: tuple[str, int]) -> None:
        self.heard.append(data)

    async def ask(self) -> bytes:
        """Send one datagram and give its answer."""
        before = len(self.heard)
        self._transport.sendto(b"?", (VIP, PORT))
        await until(lambda: len(self.heard) > before)
        return self.heard[-1]


@asynccontextmanager
async def answering(name: bytes) -> AsyncIterator[Endpoint]:
    """Serve an endpoint on an address of its own."""
    address = f"127.0.102.{name[0]}"
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Answering(name), (address, 0))
    try:
        yield Endpoint(*transport.get_extra_info("sockname"))
    finally:
        transport.close()


@asynccontextmanager
async def client() -> AsyncIterator[Asking]:
    """Open a client's socket."""
    transport, asking = await asyncio.get_running_loop().create_datagram_endpoint(Asking, ("127.0.0.1", 0))
    try:
        yield asking
    finally:
        transport.close()


def service(name: str) -> Put:
    return Put(Service(ObjectKey("default", name), (VIP,), (ServicePort("dns", Protocol.UDP, PORT),)))


def slices(of: str, **found: Endpoint) -> tuple[Put, ...]:
    """Make one slice per endpoint, named by its condition: ready, leaving (it serves while it terminates) or gone."""
    made = []
    for condition, endpoint in found.items():
        ready, serving = condition.startswith("ready"), not condition.startswith("gone")
        one = SliceEndpoint(endpoint.address, ready=ready, serving=serving, terminating=not ready)
        ports = (SlicePort("dns", Protocol.UDP, endpoint.port),)
        key, owner = ObjectKey("default", f"{of}-{endpoint.port}"), ObjectKey("default", of)
        made.append(Put(EndpointSlice(key, owner, Family.IPV4, (one,), ports)))
    return tuple(made)


async def test_an_address_that_passes_to_another_service_in_one_round_leads_its_clients_there() -> None:
    async with answering(b"a") as a, answering(b"b") as b, client() as asking, running(NoRedirect()) as stand:
        await stand.offer(*LISTED, service("dns"), *slices("dns", ready=a), *slices("other", ready=b))
        assert await asking.ask() == b"a"
        await stand.offer(Delete(Kind.SERVICE, ObjectKey("default", "dns")), service("other"))
        assert await asking.ask() == b"b"


async def test_a_flow_stays_while_its_endpoint_serves_and_leaves_it_in_the_round_in_which_it_does_no_more() -> None:
    async with answering(b"a") as a, answering(b"b") as b, client() as asking, client() as late, running(NoRedirect()) as stand:
        await stand.offer(*LISTED, service("dns"), *slices("dns", ready=a))
        assert await asking.ask() == b"a"
        await stand.offer(*slices("dns", leaving=a, ready=b))
        assert (await asking.ask(), await late.ask()) == (b"a", b"b")
        await stand.offer(*slices("dns", gone=a))
        assert (await asking.ask(), await late.ask()) == (b"b", b"b")


async def test_the_last_endpoint_that_terminates_has_new_flows_too_until_another_is_ready() -> None:
    async with answering(b"a") as a, answering(b"b") as b, client() as asking, client() as late, running(NoRedirect()) as stand:
        await stand.offer(*LISTED, service("dns"), *slices("dns", leaving=a))
        assert await asking.ask() == b"a"
        await stand.offer(*slices("dns", ready=b))
        assert (await asking.ask(), await late.ask()) == (b"a", b"b")


async def test_a_service_without_endpoints_ends_its_flows_and_the_next_endpoint_has_the_next_datagram() -> None:
    async with answering(b"a") as a, answering(b"b") as b, client() as asking, running(NoRedirect()) as stand:
        await stand.offer(*LISTED, service("dns"), *slices("dns", ready=a))
        assert await asking.ask() == b"a"
        await stand.offer(Delete(Kind.ENDPOINT_SLICE, ObjectKey("default", f"dns-{a.port}")))
        assert not list(stand.dataplane.keys)
        await stand.offer(*slices("dns", ready=b))
        assert await asking.ask() == b"b"
