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
from tests.redirect.installed import NOTICED_WITHIN_SECONDS, RULES, assert_installed
from uproxy.config import CaptureSettings
from uproxy.core.model import Protocol, RouteKey
from uproxy.errors import RedirectError
from uproxy.redirect import nfnetlink
from uproxy.redirect.base import Capture

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns


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


def test_what_uproxy_and_unrelated_programs_do_is_not_announced(host: Namespace) -> None:
    async def body() -> None:
        lost = asyncio.Event()
        with opened() as redirect:
            await redirect.start()
            redirect.watch(lost.set)
            many = Capture(frozenset(f"10.97.{number // 250}.{number % 250}" for number in range(2000)))
            for capture in (USUAL, Capture(), many, USUAL, Capture(frozenset({VIP}), {DNS: 20053})):
                await redirect.apply(capture)
            await asyncio.to_thread(host.nft, "add table inet other\nadd set inet other s { type mark; }\nadd element inet other s { 1 }\n")
            await asyncio.to_thread(host.nft, "delete table inet other")
            await asyncio.to_thread(host.ip, "rule add pref 5 from 10.9.9.9 lookup 7", "rule del pref 5")
            await asyncio.to_thread(host.ip, "route add 10.9.0.0/24 dev lo", "route del 10.9.0.0/24 dev lo")
            assert not lost.is_set()
            await asyncio.to_thread(host.nft, "delete table inet uproxy")
            await asyncio.wait_for(lost.wait(), NOTICED_WITHIN_SECONDS)

    host.call(asyncio.run, body())


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
