"""Which clients are pods of this node, by each of kube-proxy's ways to tell; the endpoints that they find, and the address seen there.

And what changes that while uproxy runs: routes, links, the Node object, settings, annotations.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.lab import client
from tests.lab.manifests import targets
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES, PROTOCOLS
from tests.lab.wiring import POD_CIDRS
from tests.netns.answering import HERE, THERE, answering, is_silent, make, one_sync, rewrite

if TYPE_CHECKING:
    from tests.lab.manifests import Served
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

ASKING: Final = ("pod", "bridged", "neighbour", "remote", "outside")
ALL_PODS: Final = ("10.244.0.0/16", "fd10:244::/32")


class Told(NamedTuple):
    """A way to tell pods. inside: those who find the endpoints of policy Cluster; kept: those whose address another node's pod sees."""

    settings: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    inside: set[str]
    kept: set[str]


WAYS = {
    "the Node's podCIDRs": Told((), POD_CIDRS, {"pod", "bridged", "neighbour"}, {"pod", "bridged", "neighbour"}),
    "host routes": Told((), (), {"pod", "bridged"}, {"pod", "bridged"}),
    "NodeCIDR": Told(("detectLocalMode: NodeCIDR",), POD_CIDRS[:2], {"pod", "bridged"}, {"pod", "bridged"}),
    "NodeCIDR of a Node without podCIDRs": Told(("detectLocalMode: NodeCIDR",), (), set(), set()),
    "ClusterCIDR": Told(
        ("detectLocalMode: ClusterCIDR", f"clusterCidrs: {list(ALL_PODS)}"),
        POD_CIDRS,
        {"pod", "bridged", "neighbour", "remote"},
        {"pod", "bridged", "neighbour"},
    ),
    "BridgeInterface": Told(
        ("detectLocalMode: BridgeInterface", "podBridgeInterface: br-shared", "podInterfaceNamePrefix: to-p"),
        POD_CIDRS,
        {"neighbour"},
        {"neighbour"},
    ),
    "InterfaceNamePrefix": Told(("detectLocalMode: InterfaceNamePrefix", "podInterfaceNamePrefix: to-p"), POD_CIDRS, {"pod"}, {"pod"}),
}


@pytest.mark.parametrize("told", WAYS.values(), ids=WAYS)
def test_who_is_a_pod_finds_all_endpoints_and_shows_its_address_to_them(stand: Stand, told: Told) -> None:
    stand.services.write_node(stand.lab.node, pod_cidrs=told.pod_cidrs)
    stand.start_with(*told.settings)
    served = make(stand, "local", THERE, external="Local")
    plain = stand.serve("plain", stand.lab.remote)
    for family in FAMILIES:
        address = stand.lab.node.address(family)
        for who in ASKING:
            if who in told.inside:
                eventually(partial(answering, stand, who, address, served.node_port))
            else:
                eventually(partial(is_silent, stand, who, address, served.node_port))
            if who != THERE:
                assert_seen(stand, plain, who, family, own=who in told.kept)
        assert answering(stand, "node", address, served.node_port) == {THERE}, "the node itself is always inside"


def assert_seen(stand: Stand, served: Served, who: str, family: int, *, own: bool) -> None:
    """Assert that endpoints see the client's own address, or else the node's."""
    for protocol in PROTOCOLS:
        seen = client.ask(stand.lab[who], served.vip(family), served.port, protocol).address
        expected = {stand.lab[who].address(family)} if own else stand.lab.node.every_address()
        assert seen in expected, f"{who} over {protocol}: {seen}"


def test_a_pod_of_another_node_is_served_by_way_of_this_one_with_a_cluster_cidr(stand: Stand) -> None:
    """It counts as a pod of the cluster, but the answers to its address would not come back here: the node's takes its place."""
    stand.start_with(*WAYS["ClusterCIDR"].settings)
    for name, kept in (("pod2", True), ("neighbour", True), ("remote", False), ("outside", False), ("node2", False)):
        served = make(stand, name, name)
        for family in FAMILIES:
            seen = client.poll(stand.lab.remote, stand.lab.node.address(family), served.node_port)
            assert seen.name == name
            assert (seen.address == stand.lab.remote.address(family)) is kept


NEW_POD: Final = ("10.244.9.9", "fd10:244:9::9")
SINGLE: Final = {4: 32, 6: 128}


def ask_as(stand: Stand, who: str, source: str, address: str, port: int) -> client.Answer:
    """Ask from another address of the client's."""
    with client.open_socket(stand.lab[who], address, socket.SOCK_STREAM, client.POLLING) as conversation:
        conversation.bind((source, 0))
        conversation.connect((address, port))
        return client.who(conversation)


def is_unanswered(stand: Stand, who: str, source: str, address: str, port: int) -> bool:
    """Tell whether such a client hears nothing."""
    try:
        ask_as(stand, who, source, address, port)
    except TimeoutError:
        return True
    return False


def move(stand: Stand, family: int, to: str, *, away_from: str = "") -> str:
    """Give pod or remote, behind different nodes, an address that its node and the router route; take it away from the other one."""
    lab, address = stand.lab, NEW_POD[family == 6]
    nodes = {"pod": lab.node, "remote": lab.node2}
    if away_from:
        lab[away_from].namespace.ip(f"addr del {address}/{SINGLE[family]} dev eth0")
        nodes[away_from].namespace.ip(f"route del {address} dev to-{away_from}")
    lab[to].namespace.ip(f"addr add {address}/{SINGLE[family]} dev eth0{' nodad' if family == 6 else ''}")
    nodes[to].namespace.ip(f"route add {address} dev to-{to}")
    lab.router.namespace.ip(f"route replace {address} via {nodes[to].address(family)}")
    return address


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("told", ["host routes", "InterfaceNamePrefix"])
def test_an_address_is_a_pods_as_soon_as_its_route_comes_and_no_longer_when_another_node_has_it(
    stand: Stand, told: str, family: int
) -> None:
    stand.services.write_node(stand.lab.node, pod_cidrs=())
    stand.start_with(*WAYS[told].settings)
    local, plain = make(stand, "local", THERE, external="Local"), stand.serve("plain", stand.lab.remote)
    far = stand.serve("far", stand.lab.far)
    node = stand.lab.node.address(family)
    for where, before in (("pod", ""), ("remote", "pod"), ("pod", "remote")):
        address = move(stand, family, where, away_from=before)
        if where == "pod":
            eventually(partial(ask_as, stand, where, address, node, local.node_port))
            assert ask_as(stand, where, address, plain.vip(family), 80).address == address
        else:
            eventually(partial(is_unanswered, stand, where, address, node, local.node_port))
            assert ask_as(stand, where, address, far.vip(family), 80).address in stand.lab.node.every_address()


def test_a_bridge_that_appears_later_has_the_pods_behind_it(stand: Stand) -> None:
    stand.start_with("detectLocalMode: BridgeInterface", "podBridgeInterface: late0")
    local, plain = make(stand, "local", THERE, external="Local"), stand.serve("plain", stand.lab.remote)
    for family in FAMILIES:
        eventually(partial(is_silent, stand, "neighbour", stand.lab.node.address(family), local.node_port))
        assert_seen(stand, plain, "neighbour", family, own=False)
    gateway = "fd10:244:2::fe/64"
    stand.lab.node.namespace.ip("link set br-shared down", "link set br-shared name late0", "link set late0 up")
    stand.lab.node.namespace.ip(f"addr replace {gateway} dev late0 nodad")
    for family in FAMILIES:
        eventually(partial(answering, stand, "neighbour", stand.lab.node.address(family), local.node_port))
        assert_seen(stand, plain, "neighbour", family, own=True)


def test_podcidrs_that_the_node_is_given_later_are_followed(stand: Stand) -> None:
    stand.services.write_node(stand.lab.node, pod_cidrs=())
    stand.start_with("detectLocalMode: NodeCIDR")
    local, plain = make(stand, "local", HERE, THERE, external="Local"), stand.serve("plain", stand.lab.remote)
    for pod_cidrs, own in (((), False), (POD_CIDRS, True), (POD_CIDRS[2:], False), (POD_CIDRS, True)):
        stand.services.write_node(stand.lab.node, pod_cidrs=pod_cidrs)
        for family in FAMILIES:
            names = {HERE, THERE} if own else {HERE}
            eventually(partial(assert_answering, stand, "pod", stand.lab.node.address(family), local.node_port, names))
            assert_seen(stand, plain, "pod", family, own=own)


def assert_answering(stand: Stand, who: str, address: str, port: int, names: set[str]) -> None:
    """Assert that a client finds these endpoints."""
    found = answering(stand, who, address, port)
    assert found == names, f"{who}: {found}"


def test_the_way_to_tell_can_be_changed_while_uproxy_runs(stand: Stand) -> None:
    stand.start_with()
    local, plain = make(stand, "local", HERE, THERE, external="Local"), stand.serve("plain", stand.lab.remote)
    with client.tcp(stand.lab.pod, plain.vip(4), 80) as stream:
        before = client.who(stream)
        for told in ("BridgeInterface", "InterfaceNamePrefix", "BridgeInterface", "the Node's podCIDRs"):
            stand.set(*WAYS[told].settings)
            for family in FAMILIES:
                names = {HERE, THERE} if "pod" in WAYS[told].inside else {HERE}
                eventually(partial(assert_answering, stand, "pod", stand.lab.node.address(family), local.node_port, names))
                assert_seen(stand, plain, "pod", family, own="pod" in WAYS[told].kept)
        assert client.who(stream) == before


def test_keeping_addresses_is_switched_for_one_service_and_for_all_without_breaking_a_connection(stand: Stand) -> None:
    stand.start_with()
    one, other = stand.serve("one", stand.lab.remote), stand.serve("other", stand.lab.remote)
    never = {"uproxy.io/keep-client-address": "never"}
    with client.tcp(stand.lab.pod, one.vip(4), 80) as stream, client.udp(stand.lab.pod, one.vip(4), 80) as flow:
        before = [client.who(each) for each in (stream, flow)]
        for annotations, setting, kept in ((never, "auto", False), ({}, "auto", True), ({}, "never", False), ({}, "auto", True)):
            stand.set(f"keepClientAddress: {setting}")
            stand.services.put(one, targets([stand.lab.remote]), annotations=annotations)
            for family in FAMILIES:
                eventually(partial(assert_seen, stand, one, "pod", family, own=kept))
                eventually(partial(assert_seen, stand, other, "pod", family, own=setting == "auto"))
            assert [client.who(each) for each in (stream, flow)] == before


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_when_a_pair_has_no_source_port_left_the_nodes_address_is_used_and_counted(
    stand: Stand, family: int, protocol: client.Protocol
) -> None:
    stand.start_with("tcp: {sourcePorts: [61000, 61003]}", "udp: {sourcePorts: [61000, 61003]}")
    served = stand.serve("web", stand.lab.pod2)
    elsewhere = stand.serve("elsewhere", stand.lab.remote)
    with ExitStack() as stack:
        made = [stack.enter_context(client.connect(stand.lab.pod, served.vip(family), 80, protocol)) for _ in range(6)]
        seen = [client.who(each) for each in made]
        own = [answer.port for answer in seen if answer.address == stand.lab.pod.address(family)]
        assert len(own) == len(set(own)) == 4
        assert all(answer.address in stand.lab.node.every_address() for answer in seen if answer.port not in own)
        assert_seen_once(stand, elsewhere, family, protocol)
        assert stand.uproxy.metrics(reason="ports")["uproxy_kept_address_fallbacks_total"] == 2
    assert stand.uproxy.metrics()["uproxy_connections_failed_total"] == 0


def assert_seen_once(stand: Stand, served: Served, family: int, protocol: client.Protocol) -> None:
    """Assert that another pair still has ports."""
    assert client.ask(stand.lab.pod, served.vip(family), 80, protocol).address == stand.lab.pod.address(family)


def test_the_switch_for_one_service_holds_for_external_policy_local_too(stand: Stand) -> None:
    stand.start()
    with one_sync(stand):
        served = make(stand, "plain", HERE, external="Local", annotations={"uproxy.io/keep-client-address": "never"})
    for family in FAMILIES:
        seen = client.ask(stand.lab.outside, stand.lab.node.address(family), served.node_port)
        assert (seen.name, seen.address in stand.lab.node.every_address()) == (HERE, True)
    with one_sync(stand):
        rewrite(stand, served, HERE, external="Local")
    for family in FAMILIES:
        assert client.ask(stand.lab.outside, stand.lab.node.address(family), served.node_port).address == stand.lab.outside.address(family)
