"""Transactions, rules read back and concurrent changes, against the kernel and in nft's words."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from cni_bridge.addresses import parse
from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink import nft_expressions as express
from cni_bridge.netlink import nftables
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_bridge.netlink.message import Message
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns

TABLE = nftables.Table(nftables.INET, "cni_bridge")
HOOK = nftables.Hook("nat", nftables.POSTROUTING_HOOK, nftables.SOURCE_NAT_PRIORITY)


@pytest.fixture
def netfilter(host: Namespace) -> Iterator[Connection]:
    with host.call(Connection, sockets.NETFILTER) as made:
        yield made


def masquerading(network: str, prefix: int) -> bytes:
    packed = parse(network)
    return express.from_network(packed, prefix) + express.to_network(packed, prefix, equal=False) + express.masquerade()


def test_nft_shows_our_rules_as_they_are_meant(host: Namespace, netfilter: Connection) -> None:
    nets = (("10.1.0.0", 16), ("10.2.16.0", 20), ("10.3.0.7", 32), ("fd00::", 64), ("fd01::", 61))
    messages = [TABLE.append_rule("postrouting", masquerading(*net), f"net: {net[0]}") for net in nets]
    nftables.commit(netfilter, [TABLE.declare(), TABLE.declare_chain("postrouting", HOOK), *messages])
    shown = [line.strip() for line in host.run("nft", "list", "table", "inet", "cni_bridge").splitlines()]
    assert "type nat hook postrouting priority srcnat; policy accept;" in shown
    assert 'ip saddr 10.1.0.0/16 ip daddr != 10.1.0.0/16 masquerade comment "net: 10.1.0.0"' in shown
    assert 'ip saddr 10.2.16.0/20 ip daddr != 10.2.16.0/20 masquerade comment "net: 10.2.16.0"' in shown
    assert 'ip saddr 10.3.0.7 ip daddr != 10.3.0.7 masquerade comment "net: 10.3.0.7"' in shown
    assert 'ip6 saddr fd00::/64 ip6 daddr != fd00::/64 masquerade comment "net: fd00::"' in shown
    assert 'ip6 saddr fd01::/61 ip6 daddr != fd01::/61 masquerade comment "net: fd01::"' in shown


def test_rules_are_read_back_with_comment_and_handle_and_can_be_deleted(host: Namespace, netfilter: Connection) -> None:
    host.nft('table inet cni_bridge { chain a { counter comment "first"; counter; counter comment "third"; }; chain b { counter; }; }')
    first, second, third = nftables.rules(netfilter, TABLE, "a")
    assert (first.comment, second.comment, third.comment) == ("first", "", "third")
    nftables.commit(netfilter, [TABLE.delete_rule(first)])
    assert [rule.comment for rule in nftables.rules(netfilter, TABLE, "a")] == ["", "third"]


def test_a_long_comment_is_cut_where_nft_would_refuse_it(host: Namespace, netfilter: Connection) -> None:
    rule = TABLE.append_rule("a", express.verdict(express.RETURN), "x" * 300)
    nftables.commit(netfilter, [TABLE.declare(), TABLE.declare_chain("a"), rule])
    assert nftables.rules(netfilter, TABLE, "a")[0].comment == "x" * 127
    assert "x" * 127 in host.run("nft", "list", "ruleset")


def test_what_is_not_there_reads_as_empty(netfilter: Connection) -> None:
    assert nftables.rules(netfilter, TABLE, "a") == []
    assert netfilter.perform(TABLE.get(), TABLE.get_chain("a")) == [[], []]
    assert TABLE.chains(netfilter.dump(TABLE.dump_chains())) == []


def test_of_a_transaction_that_fails_nothing_stays(host: Namespace, netfilter: Connection) -> None:
    with pytest.raises(NetlinkError, match="delete chain nowhere in nftables table cni_bridge") as refused:
        nftables.commit(netfilter, [TABLE.declare(), TABLE.declare_chain("a"), TABLE.delete_chain("nowhere")])
    assert refused.value.number == errno.ENOENT
    assert host.run("nft", "list", "ruleset") == ""


def test_a_plan_is_made_again_when_others_changed_the_rules_meanwhile(host: Namespace, netfilter: Connection) -> None:
    seen = []

    def plan() -> list[Message]:
        seen.append([rule.comment for rule in nftables.rules(netfilter, TABLE, "a")])
        if len(seen) == 1:
            host.nft('table inet cni_bridge { chain a { counter comment "theirs"; }; }')
        return [TABLE.declare(), TABLE.declare_chain("a"), TABLE.append_rule("a", express.verdict(express.RETURN), "ours")]

    nftables.change(netfilter, plan)
    assert seen == [[], ["theirs"]]
    assert [rule.comment for rule in nftables.rules(netfilter, TABLE, "a")] == ["theirs", "ours"]


def test_an_empty_plan_changes_nothing(netfilter: Connection) -> None:
    before = nftables.generation(netfilter)
    nftables.change(netfilter, list)
    assert nftables.generation(netfilter) == before


def test_a_chain_goes_together_with_its_rules(host: Namespace, netfilter: Connection) -> None:
    host.nft("table inet cni_bridge { chain a { counter; counter; }; chain b { counter; }; }")
    nftables.commit(netfilter, [TABLE.delete_chain("a")])
    assert TABLE.chains(netfilter.dump(TABLE.dump_chains())) == ["b"]
    nftables.commit(netfilter, [TABLE.delete()])
    assert host.run("nft", "list", "ruleset") == ""
