"""Somebody else removes what is ours: it is noticed, said and repaired, and traffic goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import client, kernel
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES, assert_served
from tests.netns.traffic import Traffic

if TYPE_CHECKING:
    from tests.lab.manifests import Served
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

REPAIR_SECONDS = 1.0
REPAIRS = "uproxy_redirect_repairs_total"
THEIRS = """
table inet theirs {
  chain in { type filter hook input priority 5; counter; }
}
"""

REMOVALS = {
    "the rule set": "nft flush ruleset",
    "our table": "nft delete table inet uproxy",
    "a chain's rules": "nft flush chain inet uproxy arriving",
    "the addresses": "nft flush set inet uproxy vips4",
    "the ports": "nft flush map inet uproxy ports6",
    "the delivery rule": "ip -4 rule del pref 972",
    "the delivery rule of IPv6": "ip -6 rule del pref 972",
    "the first policy rule": "ip -4 rule del pref 970",
    "the delivery route": "ip -4 route flush table 9702",
    "the delivery route of IPv6": "ip -6 route flush table 9702",
    "the local routes": "ip -4 route flush table 9701",
}


@pytest.fixture(scope="module")
def web(shared: Stand) -> Served:
    return shared.serve("web", shared.lab.pod2)


@pytest.mark.parametrize("what", REMOVALS)
def test_what_somebody_removes_is_put_back_within_a_second(shared: Stand, web: Served, what: str) -> None:
    before, repairs = kernel.rules(shared.lab.node), shared.uproxy.metrics()[REPAIRS]
    shared.lab.node.namespace.run(*REMOVALS[what].split())
    eventually(lambda: shared.uproxy.metrics()[REPAIRS] > repairs, within=REPAIR_SECONDS)
    eventually(lambda: kernel.rules(shared.lab.node) == before, within=REPAIR_SECONDS)
    assert_served(shared, web, "pod2")


@pytest.mark.parametrize("family", FAMILIES)
def test_new_connections_work_within_a_second_of_a_flush_under_traffic(shared: Stand, web: Served, family: int) -> None:
    with Traffic(shared.lab.outside, web.vip(family), web.port) as traffic:
        eventually(lambda: len(traffic.attempts) > 20)
        flushed, repairs = time.monotonic(), shared.uproxy.metrics()[REPAIRS]
        shared.lab.node.namespace.run("nft", "flush", "ruleset")
        client.poll(shared.lab.pod, web.vip(family), web.port, within=REPAIR_SECONDS)
        assert time.monotonic() - flushed < REPAIR_SECONDS
        eventually(lambda: shared.uproxy.metrics()[REPAIRS] > repairs)
        already = len(traffic.attempts)
        eventually(lambda: len(traffic.attempts) > already + 20)
    # One packet at most: the kernel reads the generation of rules once per chain and that of sets at each look-up, so a
    # packet between the address and the port when the flush takes effect finds its port gone, and is refused.
    assert len([error for error in traffic.errors() if isinstance(error, ConnectionRefusedError)]) <= 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("who", "endpoint"), [("pod", "pod2"), ("outside", "remote"), ("node", "pod2")])
def test_open_connections_survive_a_flush_and_its_repair(shared: Stand, who: str, endpoint: str, family: int) -> None:
    served = shared.serve(f"long-{who}-{endpoint}-{family}", shared.lab[endpoint])
    before = kernel.rules(shared.lab.node)
    with client.tcp(shared.lab[who], served.vip(family), served.port) as conversation:
        assert client.who(conversation).name == endpoint
        shared.lab.node.namespace.run("nft", "flush", "ruleset")
        eventually(lambda: kernel.rules(shared.lab.node) == before, within=REPAIR_SECONDS)
        assert client.who(conversation).name == endpoint


def test_foreign_tables_are_left_alone(shared: Stand, web: Served) -> None:
    shared.lab.node.namespace.nft(THEIRS)
    shared.lab.node.namespace.run("nft", "delete", "table", "inet", "uproxy")
    client.poll(shared.lab.pod, web.vip(4), web.port, within=REPAIR_SECONDS)
    assert "table inet theirs" in kernel.rules(shared.lab.node).ruleset
