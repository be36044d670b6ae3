"""Removing whatever was ever installed."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from tests.redirect.captures import USUAL, applied, routed, rule_lines, table
from uproxy.core.model import Protocol, RouteKey
from uproxy.redirect.base import Capture
from uproxy.redirect.cleanup import Cleaned, clean_all

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns
CLEAN = "from uproxy.redirect.cleanup import clean_all; print(*clean_all(), sep='\\n')"


def assert_empty(host: Namespace) -> None:
    assert not table(host)
    assert not rule_lines(host)
    assert not any(routed(host).values())


def test_what_was_removed_is_named_and_a_second_time_there_is_nothing(host: Namespace) -> None:
    host.call(asyncio.run, applied(USUAL))
    assert host.call(clean_all) == Cleaned(("nftables table inet uproxy", "14 rules and routes of protocol 97"), ())
    assert host.call(clean_all) == Cleaned((), ())
    assert_empty(host)


def test_what_was_left_by_versions_with_other_vips_and_marks_is_removed(host: Namespace) -> None:
    host.nft("add table inet uproxy\nadd chain inet uproxy unknown { type filter hook input priority 0\npolicy drop\n}\n")
    host.ip("rule add pref 970 fwmark 0x40/0x40 lookup 9701 proto 97", "route add local 10.1.1.1 dev lo table 9701 proto 97")
    host.ip("-6 rule add pref 32970 lookup 9703 proto 97".removeprefix("-6 ") + " from ::/0")
    host.ip("route add local 10.1.1.2 dev lo table local proto 97", "route add 10.1.1.3 dev lo table 9703 proto 97 metric 7")
    assert not host.call(clean_all).failed
    assert_empty(host)


def test_what_others_installed_stays(host: Namespace) -> None:
    host.ip("rule add pref 970 from 10.9.9.9 lookup 100", "route add local 10.1.1.2 dev lo table local proto static")
    host.nft("add table inet uproxies\nadd table ip uproxy")
    before = [host.run("nft", "list", "ruleset"), host.run("ip", "rule"), host.run("ip", "route", "show", "table", "all")]
    assert host.call(clean_all) == Cleaned((), ())
    assert [host.run("nft", "list", "ruleset"), host.run("ip", "rule"), host.run("ip", "route", "show", "table", "all")] == before


def test_a_large_capture_is_removed_whole(host: Namespace) -> None:
    vips = [f"10.96.{number // 250}.{number % 250}" for number in range(3000)]
    host.call(asyncio.run, applied(Capture(frozenset(vips), {RouteKey(vip, Protocol.TCP, 80): 20080 for vip in vips})))
    assert not host.call(clean_all).failed
    assert_empty(host)


def test_it_works_without_the_program_nft(host: Namespace) -> None:
    host.call(asyncio.run, applied(USUAL))
    host.run("env", "PATH=/nowhere", sys.executable, "-c", CLEAN)
    assert_empty(host)


def test_without_the_capability_everything_that_is_left_is_named(host: Namespace) -> None:
    host.call(asyncio.run, applied(USUAL))
    printed = host.run("setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", CLEAN)
    assert "nftables table inet uproxy: the kernel refused: Operation not permitted" in printed
    assert "IPv4 rules and routes of protocol 97" in printed
    assert "IPv6 rules and routes of protocol 97" in printed
