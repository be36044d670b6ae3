"""Nodes that are set up otherwise: no default route, strict kernels, foreign firewalls, leftovers, no IPv6."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.lab import client, kernel
from tests.lab.manifests import targets
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES, assert_served

if TYPE_CHECKING:
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

INVALID_DROPPED = """
table inet foreign {
  chain in { type filter hook input priority 0; ct state invalid counter drop; }
  chain through { type filter hook forward priority 0; ct state invalid counter drop; }
  chain out { type filter hook output priority 0; ct state invalid counter drop; }
}
"""
INPUT_DROPPED = """
table inet firewall {
  chain input {
    type filter hook input priority 10; policy drop;
    iif lo accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ip saddr 10.244.1.12 accept
    ip6 saddr fd10:244:1::12 accept
  }
}
"""
LEFTOVERS = """
table ip kube-proxy { }
table ip nat {
  chain KUBE-SERVICES { }
}
"""


def assert_kept_addresses(stand: Stand, vip: str, family: int) -> None:
    for who in ("pod", "bridged", "outside"):
        assert client.ask(stand.lab[who], vip, 80).address == stand.lab[who].address(family)


def test_without_a_default_route_all_clients_are_served(stand: Stand) -> None:
    with stand.lab.without_default_route(stand.lab.node):
        stand.start()
        served = stand.serve("web", stand.lab.pod2)
        assert_served(stand, served, "pod2")
        for family in FAMILIES:
            assert_kept_addresses(stand, served.vip(family), family)


def test_losing_the_default_route_later_changes_nothing(stand: Stand) -> None:
    stand.start()
    served = stand.serve("web", stand.lab.pod2)
    with stand.lab.without_default_route(stand.lab.node):
        assert_served(stand, served, "pod2")
    assert_served(stand, served, "pod2")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_our_rules_do_not_catch_does_not_circle_in_the_node(stand: Stand, family: int) -> None:
    """Routes that stand in for a default route must not catch forwarded packets: each would go round the loopback device 63 times."""
    with stand.lab.without_default_route(stand.lab.node):
        stand.start()
        served = stand.serve("web", stand.lab.pod2)
        stand.uproxy.kill()
        stand.lab.node.namespace.run("nft", "flush", "ruleset")
        before = loopback_packets(stand)
        with pytest.raises(OSError, match=r"unreachable|No route"):
            client.tcp(stand.lab.pod, served.external(family), 80)
        assert loopback_packets(stand) - before < 10


def loopback_packets(stand: Stand) -> int:
    found = json.loads(stand.lab.node.namespace.run("ip", "-j", "-s", "link", "show", "lo"))
    return int(found[0]["stats64"]["rx"]["packets"])


def test_with_source_checks_that_look_at_marks_all_clients_are_served(stand: Stand) -> None:
    stand.lab.node.namespace.sysctl({"net.ipv4.conf.all.src_valid_mark": 1})
    stand.start()
    served = stand.serve("web", stand.lab.pod2)
    assert_served(stand, served, "pod2")
    for family in FAMILIES:
        assert_kept_addresses(stand, served.vip(family), family)


def test_a_foreign_table_that_drops_invalid_packets_does_not_hurt(stand: Stand) -> None:
    stand.lab.node.namespace.nft(INVALID_DROPPED)
    stand.start()
    served = stand.serve("web", stand.lab.pod2)
    assert_served(stand, served, "pod2")
    for family in FAMILIES:
        assert_kept_addresses(stand, served.vip(family), family)
        assert client.download(stand.lab.outside, served.vip(family), 80, 1_000_000) == client.pattern(1_000_000)


def test_a_host_without_ipv6_serves_ipv4(stand: Stand) -> None:
    stand.lab.node.namespace.sysctl({"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1})
    stand.start()
    served = stand.services.add("web", targets([stand.lab.pod2]))
    client.poll(stand.lab.pod, served.vip(4), 80)
    assert_served(stand, served, "pod2", families=[4])


def test_a_firewall_that_drops_us_is_named_with_the_rule_that_admits_us(stand: Stand) -> None:
    stand.lab.node.namespace.nft(INPUT_DROPPED)
    stand.start()
    served = stand.services.add("web", targets([stand.lab.pod2]))
    line = stand.uproxy.wait_for_log("firewall", "input", "0x1000")
    assert "accept" in line
    eventually(lambda: served.vip(6) in kernel.rules(stand.lab.node).ruleset)
    with pytest.raises(TimeoutError):
        client.ask(stand.lab.outside, served.vip(4), 80)
    stand.lab.node.namespace.nft("insert rule inet firewall input meta mark & 0x1000 != 0 accept")
    for who in ("pod", "bridged", "outside"):
        for vip in served.cluster_ips:
            client.poll(stand.lab[who], vip, 80)


def test_what_kube_proxy_left_behind_is_named_with_the_command_that_removes_it(stand: Stand) -> None:
    stand.lab.node.namespace.nft(LEFTOVERS)
    stand.lab.node.namespace.ip("link add kube-ipvs0 type bridge")
    stand.start()
    assert "nft delete table ip kube-proxy" in stand.uproxy.wait_for_log("table ip kube-proxy")
    stand.uproxy.wait_for_log("KUBE-SERVICES")
    assert "ip link delete kube-ipvs0" in stand.uproxy.wait_for_log("kube-ipvs0")
