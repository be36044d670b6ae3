"""The nftables back end in a real kernel."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.redirect.captures import (
    DNS,
    USUAL,
    VIP,
    VIP6,
    WEB,
    WEB6,
    applied,
    elements,
    expected_elements,
    opened,
    routed,
    rule_lines,
    table,
)
from uproxy.config import CaptureSettings
from uproxy.core.model import Protocol, RouteKey
from uproxy.errors import RedirectError
from uproxy.redirect import nfnetlink
from uproxy.redirect.base import Capture

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns

RULES = [
    "970: from all fwmark 0x1000/0x1000 iif lo lookup 9701 proto 97",
    "971: from all fwmark 0x1000/0x1000 iif lo goto 32766 proto 97",
    "972: from all fwmark 0x1000/0x1000 lookup 9702 proto 97",
    "32970: from all iif lo lookup 9703 proto 97",
]
NOTICED_WITHIN_SECONDS = 1.0


def assert_installed(host: Namespace, capture: Capture) -> None:
    assert elements(host) == expected_elements(capture)
    assert routed(host) == {"9701": set(capture.vips), "9703": set(capture.vips), "local": set()}
    assert rule_lines(host) == RULES * 2
    for family in ("-4", "-6"):
        shown = host.run("ip", family, "route", "show", "table", "9702").split()
        assert shown[:6] == ["local", "default", "dev", "lo", "proto", "97"]


def random_capture(rng: random.Random) -> Capture:
    vips = [f"10.96.0.{number}" for number in range(1, 5)] + [f"fd10:96::{number}" for number in range(1, 4)]
    keys = [RouteKey(vip, protocol, port) for vip in vips for protocol in Protocol for port in (53, 80)]
    chosen = rng.sample(keys, rng.randrange(len(keys)))
    first = rng.choice((20000, 20001))
    ports = {key: first + number for number, key in enumerate(sorted(chosen))}
    refusing = frozenset(key for key in chosen if rng.random() < 0.2)
    bare = rng.sample(vips, rng.randrange(3))
    return Capture(frozenset(key.vip for key in chosen).union(bare), ports, refusing)


@pytest.mark.parametrize("seed", range(6))
def test_after_each_of_many_changes_the_kernel_holds_exactly_what_was_asked_for(host: Namespace, seed: int) -> None:
    async def body() -> None:
        rng = random.Random(seed)
        with opened() as redirect:
            await redirect.start()
            for _ in range(12):
                capture = random_capture(rng)
                await redirect.apply(capture)
                assert_installed(host, capture)
                assert await redirect.verify()

    host.call(asyncio.run, body())


def test_start_finds_the_local_ports_of_an_earlier_run_and_the_same_capture_writes_nothing(host: Namespace) -> None:
    capture = Capture(USUAL.vips, USUAL.ports, frozenset({WEB}))
    host.call(asyncio.run, applied(capture))
    before = table(host)

    async def body() -> None:
        with opened() as redirect:
            assert await redirect.start() == USUAL.ports
            transactions = nfnetlink.generation(redirect._installed._tables)
            await redirect.apply(capture)
            assert nfnetlink.generation(redirect._installed._tables) == transactions
            assert await redirect.verify()

    host.call(asyncio.run, body())
    assert table(host) == before
    assert_installed(host, capture)


def test_start_alone_writes_nothing(host: Namespace) -> None:
    async def body() -> None:
        with opened() as redirect:
            assert await redirect.start() == {}

    host.call(asyncio.run, body())
    assert not table(host)
    assert not rule_lines(host)


def test_a_take_over_removes_only_what_is_not_wanted_any_more(host: Namespace) -> None:
    host.call(asyncio.run, applied(USUAL))
    rules = [entry for entry in table(host) if "rule" in entry]
    less = Capture(frozenset({VIP}), {WEB: 20080})
    host.call(asyncio.run, applied(less))
    assert_installed(host, less)
    assert [entry for entry in table(host) if "rule" in entry] == rules


def test_rules_with_other_marks_are_replaced_and_their_local_ports_kept(host: Namespace) -> None:
    host.call(asyncio.run, applied(USUAL))

    async def body() -> None:
        with opened(CaptureSettings(deliver_mark=0x10, sent_mark=0x20)) as redirect:
            assert await redirect.start() == USUAL.ports
            await redirect.apply(USUAL)

    host.call(asyncio.run, body())
    assert elements(host) == expected_elements(USUAL)
    assert rule_lines(host) == [line.replace("0x1000/0x1000", "0x10/0x10") for line in RULES] * 2
    assert "0x00001000" not in host.run("nft", "list", "table", "inet", "uproxy")


def test_a_table_of_another_version_is_replaced(host: Namespace) -> None:
    host.nft(
        f"""table inet uproxy {{
          set rules_0 {{ type mark; }}
          map ports4 {{ type ipv4_addr . inet_proto . inet_service : inet_service; elements = {{ {VIP} . tcp . 80 : 20081 }} }}
          map vips4 {{ type ipv4_addr : mark; elements = {{ 10.9.9.9 : 5 }} }}
          chain old {{ type filter hook prerouting priority 0; policy drop; }}
        }}"""
    )

    async def body() -> None:
        with opened() as redirect:
            assert await redirect.start() == {WEB: 20081}
            await redirect.apply(USUAL)
            assert await redirect.verify()

    host.call(asyncio.run, body())
    assert_installed(host, USUAL)
    assert "old" not in host.run("nft", "list", "table", "inet", "uproxy")


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
    "an element with a comment": f'add element inet uproxy vips4 {{ 10.1.1.1 comment "x" }}',
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


def test_what_uproxy_and_unrelated_programs_do_is_not_announced(host: Namespace) -> None:
    async def body() -> None:
        lost: list[str] = []
        with opened() as redirect:
            await redirect.start()
            redirect.watch(lambda: lost.append("lost"))
            many = Capture(frozenset(f"10.97.{number // 250}.{number % 250}" for number in range(2000)))
            for capture in (USUAL, Capture(), many, USUAL, Capture(frozenset({VIP}), {DNS: 20053})):
                await redirect.apply(capture)
            await asyncio.to_thread(host.nft, "add table inet another; add set inet another s { type mark; }; add element inet another s { 1 }")
            await asyncio.to_thread(host.nft, "delete table inet another")
            await asyncio.to_thread(host.ip, "route add 10.9.0.0/24 dev lo", "route del 10.9.0.0/24 dev lo")
            assert not lost
            await asyncio.to_thread(host.nft, "delete table inet uproxy")
            while not lost:
                await asyncio.sleep(0)

    host.call(asyncio.run, asyncio.wait_for(body(), 20))


def test_foreign_rules_tables_and_routes_stay_as_they_are(host: Namespace) -> None:
    host.nft("table inet theirs { chain c { type filter hook input priority 0\n ip daddr 10.96.0.10 accept\n }\n }\n")
    host.ip("rule add pref 960 from 10.9.9.9 lookup 9701", "route add local 10.96.0.99 dev lo table 9701")
    theirs = host.run("nft", "list", "table", "inet", "theirs")

    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(USUAL)
            await redirect.apply(Capture())
            await redirect.clean()

    host.call(asyncio.run, body())
    assert host.run("nft", "list", "ruleset") == theirs
    assert "960:" in host.run("ip", "rule")
    assert "10.96.0.99" in host.run("ip", "route", "show", "table", "9701")


def test_with_ipv6_off_ipv4_is_served(host: Namespace) -> None:
    host.sysctl({"net.ipv6.conf.all.disable_ipv6": 1})
    host.call(asyncio.run, applied(USUAL))
    assert elements(host) == expected_elements(Capture(frozenset({VIP}), {WEB: 20080, DNS: 20053}))
    assert routed(host)["9701"] == {VIP}
    assert rule_lines(host) == RULES


def test_a_loopback_device_that_went_down_is_named_with_the_remedy(host: Namespace) -> None:
    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await asyncio.to_thread(host.ip, "link set lo down")
            with pytest.raises(RedirectError, match="ip link set lo up"):
                await redirect.apply(USUAL)
            await asyncio.to_thread(host.ip, "link set lo up")
            await redirect.apply(USUAL)
            assert await redirect.verify()

    host.call(asyncio.run, body())
    assert_installed(host, USUAL)


def test_cleaning_removes_everything_any_number_of_times(host: Namespace) -> None:
    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            await redirect.apply(Capture(USUAL.vips, USUAL.ports, frozenset({WEB6})))
            await redirect.clean()
            await redirect.clean()

    host.call(asyncio.run, body())
    assert not table(host)
    assert not rule_lines(host)
    assert routed(host) == {"9701": set(), "9703": set(), "local": set()}
