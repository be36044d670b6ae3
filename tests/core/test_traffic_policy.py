"""Traffic policies, topology hints and load-balancer addresses: which endpoints stand behind which address, and for whom.

Rows of the kinds "Cluster, Local, some elsewhere, nothing anywhere" follow kube-proxy's CategorizeEndpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from tests.core.objects import service, slice_of
from uproxy.core.model import AddressClass, Protocol, Route, Service, ServicePort, SliceEndpoint
from uproxy.core.policy import NodeView, routes_of

NODE = NodeView("here", ("192.168.0.1",), frozenset({"192.168.0.1"}), zone="a")
EVERYWHERE = replace(
    service(ports=(ServicePort("http", Protocol.TCP, 80, 30080),), external_ips=("203.0.113.7",)),
    load_balancer_ips=("198.51.100.1",),
)
EXTERNAL = (AddressClass.EXTERNAL_IP, AddressClass.LOAD_BALANCER, AddressClass.NODE_PORT)

HERE = SliceEndpoint("10.0.0.1", node_name="here")
THERE = SliceEndpoint("10.0.0.2", node_name="there")
NOWHERE = SliceEndpoint("10.0.0.3")


def leaving(one: SliceEndpoint) -> SliceEndpoint:
    return replace(one, ready=False, terminating=True)


def unready(one: SliceEndpoint) -> SliceEndpoint:
    return replace(one, ready=False, serving=False)


class Found(NamedTuple):
    """What a route leads to, addresses shortened to their last number."""

    endpoints: str
    inside: str | None = None
    silent: bool = False


def found(route: Route) -> Found:
    def shortened(endpoints: tuple[tuple[str, int], ...]) -> str:
        return " ".join(address.rpartition(".")[2] for address, _ in endpoints)

    return Found(shortened(route.endpoints), None if route.inside is None else shortened(route.inside), route.silent)


def routes(of: Service, *endpoints: SliceEndpoint, node: NodeView = NODE) -> dict[AddressClass, Route]:
    return {one.address_class: one for one in routes_of(of, [slice_of("s", *endpoints)], node).routes}


LOCAL: dict[str, tuple[list[SliceEndpoint], Found, Found]] = {
    "one here and one elsewhere": ([HERE, THERE], Found("1"), Found("1", "1 2")),
    "only here": ([HERE], Found("1"), Found("1")),
    "none here, one elsewhere": ([THERE], Found("", silent=True), Found("", "2", silent=True)),
    "an endpoint without a node is elsewhere": ([NOWHERE], Found("", silent=True), Found("", "3", silent=True)),
    "nothing anywhere": ([], Found(""), Found("")),
    "nothing usable anywhere": ([unready(HERE), unready(THERE)], Found(""), Found("")),
    "here it terminates, elsewhere it is ready": ([leaving(HERE), THERE], Found("1"), Found("1", "2")),
    "none usable here, elsewhere it terminates": ([unready(HERE), leaving(THERE)], Found("", silent=True), Found("", "2", silent=True)),
    "it terminates here and elsewhere": ([leaving(HERE), leaving(THERE)], Found("1"), Found("1", "1 2")),
    "ready here, so what terminates here is passed over": ([HERE, leaving(replace(HERE, address="10.0.0.9"))], Found("1"), Found("1")),
}


@pytest.mark.parametrize(("endpoints", "internal", "external"), LOCAL.values(), ids=LOCAL)
def test_policy_local_means_this_nodes_endpoints(endpoints: list[SliceEndpoint], internal: Found, external: Found) -> None:
    got = routes(replace(EVERYWHERE, internal_local=True, external_local=True), *endpoints)
    assert found(got[AddressClass.CLUSTER_IP]) == internal
    assert {found(got[each]) for each in EXTERNAL} == {external}


def test_internal_and_external_policy_do_not_know_each_other() -> None:
    inward = routes(replace(EVERYWHERE, internal_local=True), HERE, THERE)
    assert [found(inward[each]).endpoints for each in (AddressClass.CLUSTER_IP, *EXTERNAL)] == ["1", "1 2", "1 2", "1 2"]
    outward = routes(replace(EVERYWHERE, external_local=True), HERE, THERE)
    assert [found(outward[each]).endpoints for each in (AddressClass.CLUSTER_IP, *EXTERNAL)] == ["1 2", "1", "1", "1"]


def hinted(number: int, *, nodes: tuple[str, ...] = (), zones: tuple[str, ...] = ()) -> SliceEndpoint:
    return SliceEndpoint(f"10.0.0.{number}", for_nodes=nodes, for_zones=zones)


TOPOLOGY: dict[str, tuple[list[SliceEndpoint], str]] = {
    "no hints": ([hinted(1), hinted(2)], "1 2"),
    "this zone's": ([hinted(1, zones=("a",)), hinted(2, zones=("b",)), hinted(3, zones=("b", "a"))], "1 3"),
    "one without a hint switches hints off": ([hinted(1, zones=("a",)), hinted(2)], "1 2"),
    "no hint for this zone": ([hinted(1, zones=("b",)), hinted(2, zones=("c",))], "1 2"),
    "this node's go before this zone's": ([hinted(1, nodes=("here",), zones=("a",)), hinted(2, nodes=("there",), zones=("a",))], "1"),
    "no hint for this node: its zone's": ([hinted(1, nodes=("x",), zones=("a",)), hinted(2, nodes=("y",), zones=("b",))], "1"),
    "one without a node hint: zones": ([hinted(1, nodes=("here",), zones=("b",)), hinted(2, zones=("a",))], "2"),
    "hints of what is not ready do not count": ([hinted(1, zones=("a",)), hinted(2, zones=("b",)), unready(hinted(3))], "1"),
    "the fallback knows no hints": ([leaving(hinted(1, zones=("a",))), leaving(hinted(2, zones=("b",)))], "1 2"),
}


@pytest.mark.parametrize(("endpoints", "expected"), TOPOLOGY.values(), ids=TOPOLOGY)
def test_topology_hints_narrow_down_policy_cluster(endpoints: list[SliceEndpoint], expected: str) -> None:
    assert found(routes(service(), *endpoints)[AddressClass.CLUSTER_IP]).endpoints == expected


def test_a_node_without_a_zone_uses_all_zones() -> None:
    got = routes(service(), hinted(1, zones=("a",)), hinted(2, zones=("b",)), node=replace(NODE, zone=""))
    assert found(got[AddressClass.CLUSTER_IP]).endpoints == "1 2"


def test_topology_never_applies_to_policy_local() -> None:
    endpoints = [replace(HERE, for_zones=("b",)), replace(HERE, address="10.0.0.4", for_zones=("a",))]
    assert found(routes(replace(EVERYWHERE, internal_local=True), *endpoints)[AddressClass.CLUSTER_IP]).endpoints == "1 4"


def test_source_ranges_hold_for_load_balancer_addresses_alone() -> None:
    got = routes(replace(EVERYWHERE, source_ranges=("192.0.2.0/24", "10.0.0.0/8", "2001:db8::/64")), HERE)
    assert got[AddressClass.LOAD_BALANCER].admitted == (("10.0.0.0/8", "192.0.2.0/24"),)
    assert all(got[each].admitted == () for each in (AddressClass.CLUSTER_IP, AddressClass.EXTERNAL_IP, AddressClass.NODE_PORT))


def test_source_ranges_of_the_other_family_alone_let_everybody_in() -> None:
    assert routes(replace(EVERYWHERE, source_ranges=("2001:db8::/64",)), HERE)[AddressClass.LOAD_BALANCER].admitted == ()


def test_a_node_among_the_allowed_may_also_come_from_the_load_balancers_address() -> None:
    got = routes(replace(EVERYWHERE, source_ranges=("192.168.0.0/16",)), HERE)
    assert got[AddressClass.LOAD_BALANCER].admitted == (("192.168.0.0/16", "198.51.100.1/32"),)


def test_who_would_find_no_endpoint_here_is_not_let_in() -> None:
    node = replace(NODE, inside=("10.244.1.0/24", "192.168.0.1/32"))
    local = replace(EVERYWHERE, internal_local=True, external_local=True, source_ranges=("192.0.2.0/24",))
    got = routes(local, THERE, node=node)
    assert got[AddressClass.CLUSTER_IP].admitted == ((),)
    assert got[AddressClass.NODE_PORT].admitted == (node.inside,)
    assert got[AddressClass.LOAD_BALANCER].admitted == (("192.0.2.0/24",), node.inside)
    assert all(one.has_listener for one in got.values())
    assert all(one.admitted == () for one in routes(replace(local, source_ranges=()), HERE, node=node).values())
    assert not any(one.has_listener for one in routes(local, node=node).values())


def test_external_ips_can_be_switched_off() -> None:
    assert AddressClass.EXTERNAL_IP not in routes(EVERYWHERE, HERE, node=replace(NODE, external_ips=False))
