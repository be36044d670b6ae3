"""What happens when somebody else changes what the nftables back end installed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.redirect.captures import USUAL, VIP, VIP6, applied, elements, opened, table
from tests.redirect.installed import NOTICED_WITHIN_SECONDS, assert_installed
from uproxy.core.model import Protocol, RouteKey
from uproxy.redirect.base import Capture

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns

DAMAGES = {
    "the whole ruleset": ["nft flush ruleset"],
    "the table": ["nft delete table inet uproxy"],
    "one rule": ["nft flush chain inet uproxy leaving"],
    "all elements of a map": ["nft flush map inet uproxy ports4"],
    "one element": [f"nft delete element inet uproxy origins6 {{ {VIP6} . tcp . 20080 }}"],
    "a policy rule": ["ip rule del pref 970"],
    "the IPv6 policy rules": ["ip -6 rule del pref 971", "ip -6 rule del pref 972"],
    "a VIP's route": [f"ip route del local {VIP} table 9701"],
    "all routes of a table": ["ip -6 route flush table 9703"],
    "the route for everything": ["ip route del local default table 9702"],
    "the loopback device for a moment": ["ip link set lo down", "ip link set lo up"],
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_foreign_removal_is_noticed_within_a_second_and_the_next_apply_repairs_it(host: Namespace, what: str) -> None:
    async def body() -> None:
        lost = asyncio.Event()
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(USUAL)
            redirect.watch(lost.set)
            for command in DAMAGES[what]:
                await asyncio.to_thread(host.run, *command.split())
            await asyncio.wait_for(lost.wait(), NOTICED_WITHIN_SECONDS)
            await redirect.apply(USUAL)
            assert_installed(host, USUAL)
            assert await redirect.verify()

    host.call(asyncio.run, body())


@pytest.mark.parametrize("what", DAMAGES)
def test_without_a_notification_verify_finds_what_is_missing(host: Namespace, what: str) -> None:
    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(USUAL)
            for command in DAMAGES[what]:
                await asyncio.to_thread(host.run, *command.split())
            assert not await redirect.verify()
            await redirect.apply(USUAL)
            assert_installed(host, USUAL)
            assert await redirect.verify()

    host.call(asyncio.run, body())


ADDITIONS = {
    "an element": f"add element inet uproxy ports4 {{ {VIP} . tcp . 443 : 443 }}",
    "an element with a comment": 'add element inet uproxy vips4 { 10.1.1.1 comment "x" }',
    "a rule": "insert rule inet uproxy services4 drop",
    "a chain": "add chain inet uproxy extra",
}


@pytest.mark.parametrize("what", ADDITIONS)
def test_verify_finds_foreign_additions_and_the_next_apply_takes_them_out(host: Namespace, what: str) -> None:
    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(USUAL)
            assert await redirect.verify()
            await asyncio.to_thread(host.nft, ADDITIONS[what])
            assert not await redirect.verify()
            await redirect.apply(USUAL)
            assert await redirect.verify()

    before_and_after: list[object] = []
    host.call(asyncio.run, applied(USUAL))
    before_and_after.append(shape(host))
    host.call(asyncio.run, body())
    before_and_after.append(shape(host))
    assert before_and_after[0] == before_and_after[1]


def shape(host: Namespace) -> object:
    """Give all of the table but handles and the order of elements."""
    return (
        elements(host),
        [line for line in host.run("nft", "-t", "list", "table", "inet", "uproxy").splitlines() if "rules_" not in line],
    )


def test_a_rule_that_somebody_exchanged_for_another_one_is_noticed(host: Namespace) -> None:
    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(USUAL)
            await asyncio.to_thread(host.nft, "add table inet other")
            assert await redirect.verify()
            handle = next(entry["rule"]["handle"] for entry in table(host) if entry.get("rule", {}).get("chain") == "leaving")
            await asyncio.to_thread(host.nft, f"replace rule inet uproxy leaving handle {handle} accept")
            assert not await redirect.verify()
            await redirect.apply(USUAL)
            assert await redirect.verify()

    host.call(asyncio.run, body())
    assert "mark & 0x00000800" in host.run("nft", "list", "chain", "inet", "uproxy", "leaving")


def test_an_apply_right_after_a_flush_that_nobody_announced_repairs_everything(host: Namespace) -> None:
    more = Capture(USUAL.vips, {**USUAL.ports, RouteKey(VIP, Protocol.TCP, 443): 20443})

    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(USUAL)
            await asyncio.to_thread(host.run, "nft", "flush", "ruleset")
            await redirect.apply(more)

    host.call(asyncio.run, body())
    assert_installed(host, more)
