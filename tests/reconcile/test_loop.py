"""The reconciler over a real data plane: events become listeners, failures are retried, the rest is left alone."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from tests.reconcile.rewriting import Rewriting
from tests.reconcile.stand import LINGER, LISTED, connected, endpoint, greeting, is_refused, running, service, slice_of, until
from uproxy.core.model import (
    EndpointSlice,
    Family,
    Kind,
    Node,
    ObjectKey,
    Protocol,
    RouteKey,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from uproxy.core.policy import HealthCheck
from uproxy.core.ruleset import Capture
from uproxy.core.state import Delete, Listed, Put
from uproxy.redirect.none import NoRedirect

VIP, OTHER = "127.0.101.1", "127.0.101.2"
PORT, LOCAL_PORT = 10800, 20800
WEB = ObjectKey("default", "web")
WEB_KEY = RouteKey(VIP, Protocol.TCP, PORT)


async def test_nothing_is_opened_before_every_kind_is_listed() -> None:
    async with endpoint(b"a") as a, running(NoRedirect()) as stand:
        stand.reconciler.offer([service("web", VIP, PORT), slice_of("web", a.port), Listed(Kind.SERVICE), Listed(Kind.NODE)])
        await asyncio.sleep(0.1)
        assert not list(stand.dataplane.keys)
        await stand.offer(Listed(Kind.ENDPOINT_SLICE))
        assert list(stand.dataplane.keys) == [WEB_KEY]
        assert await greeting(VIP, PORT) == b"a"


async def test_a_burst_of_changes_costs_one_plan() -> None:
    async with running(Rewriting()) as stand:
        await stand.offer(*LISTED)
        rounds = stand.stats.durations.total
        for number in range(500):
            stand.reconciler.offer([service(f"web-{number}", f"10.96.1.{number % 250}", 1 + number)])
        await until(lambda: stand.stats.services == 500)
        assert stand.stats.durations.total - rounds <= 2


async def test_endpoints_change_without_touching_listener_kernel_or_open_connections() -> None:
    redirect = NoRedirect()
    async with endpoint(b"a") as a, endpoint(b"b") as b, running(redirect) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT), slice_of("web", a.port))
        applies = stand.stats.applies
        async with connected(VIP, PORT) as old:
            await stand.offer(slice_of("web", b.port))
            assert (old.greeting, await greeting(VIP, PORT)) == (b"a", b"b")
            assert await old.echoes(b"still here")
        assert stand.stats.applies == applies


async def test_a_service_without_endpoints_is_refused_and_works_again_when_one_appears() -> None:
    async with endpoint(b"a") as a, running(NoRedirect()) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT))
        assert await is_refused(VIP, PORT)
        await stand.offer(slice_of("web", a.port))
        assert await greeting(VIP, PORT) == b"a"
        await stand.offer(slice_of("web"))
        assert await is_refused(VIP, PORT)


async def test_a_service_that_goes_away_leaves_its_open_connections_and_those_of_others_alone() -> None:
    async with endpoint(b"a") as a, running(NoRedirect()) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT), slice_of("web", a.port), service("db", OTHER, PORT), slice_of("db", a.port))
        async with connected(VIP, PORT) as mine, connected(OTHER, PORT) as others:
            await stand.offer(Delete(Kind.SERVICE, WEB))
            assert await is_refused(VIP, PORT)
            assert await mine.echoes(b"mine")
            assert await others.echoes(b"others")


async def test_an_address_that_is_taken_affects_only_itself_and_is_served_once_it_is_free() -> None:
    async with endpoint(b"a") as a, running(NoRedirect()) as stand:
        with socket.create_server((VIP, PORT)):
            await stand.offer(
                *LISTED, service("web", VIP, PORT), slice_of("web", a.port), service("db", OTHER, PORT), slice_of("db", a.port)
            )
            assert await greeting(OTHER, PORT) == b"a"
            assert stand.stats.failed_listeners == 1
        await until(lambda: stand.stats.failed_listeners == 0)
        assert await greeting(VIP, PORT) == b"a"


async def test_an_address_that_passes_to_another_service_keeps_its_listener_and_its_open_connections() -> None:
    async with endpoint(b"a") as a, endpoint(b"b") as b, running(NoRedirect()) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT), slice_of("web", a.port), slice_of("shop", b.port))
        async with connected(VIP, PORT) as old:
            await stand.offer(Delete(Kind.SERVICE, WEB), service("shop", VIP, PORT))
            assert (old.greeting, await greeting(VIP, PORT)) == (b"a", b"b")
            assert await old.echoes(b"still here")
            assert {name.name: traffic.active for name, traffic in stand.dataplane.traffic()}["web"] == 1
        await until(lambda: [name.name for name, _ in stand.dataplane.traffic()] == ["shop"])


@pytest.mark.parametrize("later", [(SliceEndpoint("127.0.0.1", node_name="other"),), ()], ids=["silent", "closed"])
async def test_who_was_let_in_before_the_last_endpoint_here_went_still_has_it(later: tuple[SliceEndpoint, ...]) -> None:
    """Each address of the Service: they share the list of endpoints. The clients come while the round is under way."""
    wanted = Service(
        WEB, (VIP,), (ServicePort("", Protocol.TCP, PORT),), external_ips=(OTHER,), internal_local=True, external_local=True
    )
    async with endpoint(b"a") as a, running(NoRedirect()) as stand:

        def offered(*endpoints: SliceEndpoint) -> Put:
            return Put(EndpointSlice(WEB, WEB, Family.IPV4, endpoints, (SlicePort("", Protocol.TCP, a.port),)))

        await stand.offer(*LISTED, Put(wanted), offered(SliceEndpoint("127.0.0.1", node_name="node")))
        with ExitStack() as stack:
            clients: list[socket.socket] = []
            stand.on_look = lambda: clients.extend(
                stack.enter_context(socket.create_connection((vip, PORT))) for vip in (VIP, OTHER) for _ in range(3)
            )
            await stand.offer(Put(Node("node")), offered(*later))
            assert [await asyncio.to_thread(client.recv, 2) for client in clients] == [b"a\n"] * 6


@pytest.mark.netns
async def test_open_connections_keep_their_capture_until_the_last_one_has_ended_for_a_while() -> None:
    redirect = Rewriting()
    async with endpoint(b"a") as a, running(redirect) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT), slice_of("web", a.port))
        assert redirect.applied[-1] == Capture(frozenset({VIP}), {WEB_KEY: LOCAL_PORT})
        async with connected(VIP, LOCAL_PORT) as client:
            await stand.offer(Delete(Kind.SERVICE, WEB))
            assert redirect.applied[-1] == Capture(frozenset({VIP}), {WEB_KEY: LOCAL_PORT}, frozenset({WEB_KEY}))
            assert await client.echoes(b"still here")
            closing = asyncio.get_running_loop().time()
        await until(lambda: redirect.applied[-1] == Capture())
        assert asyncio.get_running_loop().time() - closing >= LINGER


@pytest.mark.netns
async def test_a_service_that_returns_while_connections_are_open_gets_the_same_local_port() -> None:
    redirect = Rewriting()
    async with endpoint(b"a") as a, running(redirect) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT), slice_of("web", a.port))
        async with connected(VIP, LOCAL_PORT):
            await stand.offer(Delete(Kind.SERVICE, WEB))
            await stand.offer(service("web", VIP, PORT))
            assert redirect.applied[-1] == Capture(frozenset({VIP}), {WEB_KEY: LOCAL_PORT})
            assert await greeting(VIP, LOCAL_PORT) == b"a"
        assert await greeting(VIP, LOCAL_PORT) == b"a"


@pytest.mark.netns
async def test_a_removed_service_without_connections_leaves_nothing_captured() -> None:
    redirect = Rewriting()
    async with endpoint(b"a") as a, running(redirect) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT), slice_of("web", a.port))
        await stand.offer(Delete(Kind.SERVICE, WEB))
        await until(lambda: redirect.applied[-1] == Capture())


@pytest.mark.netns
async def test_what_can_go_while_the_kernel_is_being_told_of_something_else_goes_too() -> None:
    redirect = Rewriting()
    async with running(redirect) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT), slice_of("web", 1))
        await stand.offer(Delete(Kind.SERVICE, WEB))
        redirect.at_work.clear()
        stand.reconciler.offer([service("db", OTHER, PORT)])
        await asyncio.sleep(2 * LINGER)
        assert WEB_KEY in redirect.applied[-1].ports
        redirect.at_work.set()
        await until(lambda: redirect.applied[-1] == Capture(frozenset({OTHER})))


@pytest.mark.netns
async def test_a_local_port_that_the_kernel_remembers_is_used_again() -> None:
    redirect = Rewriting()
    redirect.inherited = {WEB_KEY: 24711}
    async with endpoint(b"a") as a, running(redirect) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT), slice_of("web", a.port))
        assert redirect.applied[-1].ports == {WEB_KEY: 24711}


@pytest.mark.netns
async def test_a_local_port_that_nobody_asked_for_after_a_restart_is_free_again() -> None:
    redirect = Rewriting()
    redirect.inherited = {RouteKey(VIP, Protocol.TCP, 4711): LOCAL_PORT}
    async with endpoint(b"a") as a, running(redirect) as stand:
        await stand.offer(*LISTED)
        await stand.offer(service("web", VIP, PORT), slice_of("web", a.port))
        assert redirect.applied[-1].ports == {WEB_KEY: LOCAL_PORT}


async def test_a_kernel_that_refuses_is_asked_again_until_it_accepts() -> None:
    redirect = Rewriting()
    redirect.refusals = 3
    async with running(redirect) as stand:
        stand.reconciler.offer([*LISTED, service("web", VIP, PORT)])
        await until(lambda: stand.stats.failures == 3 and bool(redirect.applied))
        assert redirect.applied[-1] == Capture(frozenset({VIP}))
        assert stand.health.last_failure == ""


async def test_what_somebody_else_removed_is_put_back() -> None:
    redirect = Rewriting()
    async with running(redirect) as stand:
        await stand.offer(*LISTED, service("web", VIP, PORT))
        applied = len(redirect.applied)
        redirect.intact = False
        redirect.lost()
        await until(lambda: len(redirect.applied) > applied)
        assert stand.stats.repairs == 1


async def test_what_load_balancers_may_ask_is_handed_over_once_it_holds_and_taken_back() -> None:
    wanted = Service(WEB, (VIP,), (ServicePort("", Protocol.TCP, PORT),), health_check_node_port=32000)
    here = EndpointSlice(WEB, WEB, Family.IPV4, (SliceEndpoint("127.0.0.1", node_name="node"),), (SlicePort("", Protocol.TCP, 8080),))
    async with running(NoRedirect()) as stand:
        await stand.offer(*LISTED, Put(wanted))
        assert stand.checks == {WEB: HealthCheck(32000, 0)}
        await stand.offer(Put(here))
        assert stand.checks == {WEB: HealthCheck(32000, 1)}
        await stand.offer(Delete(Kind.SERVICE, WEB))
        assert stand.checks == {}
