"""The back ends without netfilter."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.redirect.captures import USUAL, VIP, VIP6, Facts, applied, routed, rule_lines, table
from uproxy.redirect.base import Capture, Redirect
from uproxy.redirect.nftables import Nftables
from uproxy.redirect.none import NoRedirect
from uproxy.redirect.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespaces import Namespace


@contextmanager
def opened() -> Iterator[Routes]:
    made = Routes(Facts())
    try:
        yield made
    finally:
        made.close()


def assert_installed(host: Namespace, *vips: str) -> None:
    assert routed(host) == {"9701": set(), "9703": set(), "local": set(vips)}
    assert not rule_lines(host)
    assert not table(host)


def assert_answers(vip: str, level: int, transparent: int) -> None:
    """Serve and connect on the VIP itself, as listeners of this back end do."""
    with socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET) as listener:
        listener.setsockopt(level, transparent, 1)
        listener.bind((vip, 80))
        listener.listen()
        with socket.create_connection((vip, 80), timeout=3) as client, listener.accept()[0] as server:
            server.sendall(b"hello")
            assert client.recv(5) == b"hello"


@pytest.mark.netns
def test_a_vip_becomes_a_local_address_and_stops_being_one(host: Namespace) -> None:
    async def body() -> None:
        with opened() as redirect:
            assert await redirect.start() == {}
            await redirect.apply(USUAL)
            assert_installed(host, VIP, VIP6)
            assert_answers(VIP, socket.IPPROTO_IP, 19)
            assert_answers(VIP6, socket.IPPROTO_IPV6, 75)
            await redirect.apply(Capture(frozenset({VIP6})))
            assert_installed(host, VIP6)
            assert await redirect.verify()

    host.call(asyncio.run, body())


@pytest.mark.netns
def test_routes_of_an_earlier_run_are_taken_over_or_removed(host: Namespace) -> None:
    async def run(capture: Capture) -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(capture)

    host.call(asyncio.run, run(USUAL))
    host.call(asyncio.run, run(Capture(frozenset({VIP}))))
    assert_installed(host, VIP)


@pytest.mark.netns
@pytest.mark.parametrize(
    "command", [f"ip route del local {VIP} table local", "ip -6 route flush table local proto 97", "ip link set lo down"]
)
def test_a_removed_route_is_noticed_within_a_second_and_repaired(host: Namespace, command: str) -> None:
    async def body() -> None:
        lost = asyncio.Event()
        with opened() as redirect:
            await redirect.start()
            redirect.watch(lost.set)
            await redirect.apply(USUAL)
            assert not lost.is_set()
            await asyncio.to_thread(host.run, *command.split())
            await asyncio.wait_for(lost.wait(), 1)
            assert not await redirect.verify()
            await asyncio.to_thread(host.ip, "link set lo up")
            await redirect.apply(USUAL)
            assert_installed(host, VIP, VIP6)
            assert await redirect.verify()

    host.call(asyncio.run, body())


@pytest.mark.netns
def test_an_address_of_the_node_that_is_also_a_vip_stays_the_nodes_own(host: Namespace) -> None:
    host.ip("link add up-a type bridge", f"addr add {VIP}/32 dev up-a", "link set up-a up")
    before = host.run("ip", "route", "show", "table", "local")

    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(USUAL)
            await redirect.apply(Capture())

    host.call(asyncio.run, body())
    assert host.run("ip", "route", "show", "table", "local") == before


@pytest.mark.netns
def test_cleaning_removes_what_the_other_back_end_left_too(host: Namespace) -> None:
    host.call(asyncio.run, applied(USUAL))

    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(USUAL)
            await redirect.clean()
            await redirect.clean()

    host.call(asyncio.run, body())
    assert_installed(host)


async def test_without_capture_nothing_has_to_be_done_and_no_privilege_is_needed() -> None:
    redirect = NoRedirect()
    assert await redirect.start() == {}
    await redirect.apply(USUAL)
    assert await redirect.verify()
    await redirect.clean()
    redirect.watch(lambda: None)
    redirect.close()


def test_every_back_end_is_one() -> None:
    kinds: list[type[Redirect]] = [Nftables, Routes, NoRedirect]
    assert [(kind.name, kind.rewrites, kind.keeps_clients) for kind in kinds] == [
        ("nftables", True, True),
        ("routes", False, False),
        ("none", False, False),
    ]
