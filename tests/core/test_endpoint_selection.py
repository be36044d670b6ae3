"""Which endpoints a client is led to, and whether it is dropped or refused without any: kube-proxy's table, row by row.

Beside it what traffic policies and topology hints do per address, port and family. The order of readiness among endpoints
is in test_policy.py, the rules of one policy and of hints in test_traffic_policy.py.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from tests.core.objects import service, slice_of
from uproxy.core.model import AddressClass, EndpointSlice, Protocol, Route, Service, ServicePort, SliceEndpoint, SlicePort
from uproxy.core.policy import NodeView, routes_of

TCP, UDP = Protocol.TCP, Protocol.UDP
NODE = NodeView("here", ("192.168.0.1", "fd99::1"), frozenset({"192.168.0.1", "fd99::1"}), zone="a")
PLAIN = service("web", "10.96.0.1", "fd96::1")
REACHED_FROM_OUTSIDE = replace(
    PLAIN,
    ports=(ServicePort("http", TCP, 80, 30080),),
    external_ips=("203.0.113.7", "2001:db8::7"),
    load_balancer_ips=("198.51.100.1", "2001:db8:1::1"),
)

HERE = SliceEndpoint("10.0.0.1", node_name="here")
THERE = SliceEndpoint("10.0.0.2", node_name="there")


def leaving(one: SliceEndpoint) -> SliceEndpoint:
    return replace(one, ready=False, terminating=True)


def gone(one: SliceEndpoint) -> SliceEndpoint:
    return replace(one, ready=False, serving=False)


def outcome(route: Route) -> str:
    """Say what becomes of a client from outside: to which endpoints, dropped, or refused."""
    if route.endpoints:
        return " ".join(endpoint.address.rpartition(".")[2] for endpoint in route.endpoints)
    return "dropped" if route.silent else "refused"


class Row(NamedTuple):
    """Endpoints, and the outcome under policy Cluster and under policy Local."""

    endpoints: tuple[SliceEndpoint, ...]
    cluster: str
    local: str


ROWS: dict[str, Row] = {
    "ready here": Row((HERE,), "1", "1"),
    "ready here and elsewhere": Row((HERE, THERE), "1 2", "1"),
    "ready elsewhere": Row((THERE,), "2", "dropped"),
    "terminating here": Row((leaving(HERE),), "1", "1"),
    "terminating elsewhere": Row((leaving(THERE),), "2", "dropped"),
    "terminating here and elsewhere": Row((leaving(HERE), leaving(THERE)), "1 2", "1"),
    "terminating here, ready elsewhere": Row((leaving(HERE), THERE), "2", "1"),
    "ready here, terminating elsewhere": Row((HERE, leaving(THERE)), "1", "1"),
    "not usable here, ready elsewhere": Row((gone(HERE), THERE), "2", "dropped"),
    "not usable anywhere": Row((gone(HERE), gone(THERE)), "refused", "refused"),
    "terminating without serving": Row((replace(gone(HERE), terminating=True),), "refused", "refused"),
    "nothing anywhere": Row((), "refused", "refused"),
}


@pytest.mark.parametrize("address_class", AddressClass)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_client_is_led_dropped_or_refused_at_every_class_of_address(row: Row, address_class: AddressClass) -> None:
    for local, expected in ((False, row.cluster), (True, row.local)):
        found = replace(REACHED_FROM_OUTSIDE, internal_local=local, external_local=local)
        routes = routes_of(found, [slice_of("s", *row.endpoints)], NODE).routes
        four = next(one for one in routes if one.address_class is address_class and ":" not in one.key.vip)
        assert outcome(four) == expected
        assert four.has_listener == (expected != "refused"), "the kernel refuses where nobody listens"


def test_external_policy_local_means_nothing_to_a_service_that_is_not_reached_from_outside() -> None:
    inward = replace(PLAIN, external_local=True)
    endpoints = [slice_of("s", HERE, THERE), slice_of("t", SliceEndpoint("fd00::2", node_name="there"))]
    assert routes_of(inward, endpoints, NODE) == routes_of(PLAIN, endpoints, NODE)


EXTERNALLY: dict[str, Service] = {
    "nodePort": replace(PLAIN, ports=(ServicePort("http", TCP, 80, 30080),)),
    "load-balancer address": replace(PLAIN, load_balancer_ips=("198.51.100.1",)),
    "externalIPs": replace(PLAIN, external_ips=("203.0.113.7",)),
}


@pytest.mark.parametrize("reached", EXTERNALLY.values(), ids=EXTERNALLY)
def test_one_address_outside_is_enough_for_the_external_policy_and_none_of_its_concern_inside(reached: Service) -> None:
    routes = routes_of(replace(reached, external_local=True), [slice_of("s", HERE, THERE)], NODE).routes
    found = {one.address_class: (outcome(one), one.inside and len(one.inside)) for one in routes if ":" not in one.key.vip}
    assert found.pop(AddressClass.CLUSTER_IP) == ("1 2", None)
    assert list(found.values()) == [("1", 2)]


def by_port(found: Service, *slices: EndpointSlice) -> dict[str, str]:
    return {one.service_port.port: outcome(one) for one in routes_of(found, slices, NODE).routes if ":" not in one.key.vip}


def test_policy_local_is_decided_for_each_port() -> None:
    found = replace(PLAIN, ports=(ServicePort("a", TCP, 80), ServicePort("b", TCP, 81), ServicePort("c", UDP, 82)), internal_local=True)
    a = slice_of("s", HERE, THERE, ports=(SlicePort("a", TCP, 8080),))
    b = slice_of("t", THERE, ports=(SlicePort("b", TCP, 8081),))
    assert by_port(found, a, b) == {"a": "1", "b": "dropped", "c": "refused"}


def test_topology_hints_are_decided_for_each_port() -> None:
    found = replace(PLAIN, ports=(ServicePort("a", TCP, 80), ServicePort("b", TCP, 81)))
    hinted = [replace(HERE, for_zones=("a",)), replace(THERE, for_zones=("b",))]
    a = slice_of("s", *hinted, ports=(SlicePort("a", TCP, 8080),))
    b = slice_of("t", *hinted, ports=(SlicePort("b", TCP, 8081),))
    unhinted = slice_of("u", SliceEndpoint("10.0.0.3"), ports=(SlicePort("b", TCP, 8081),))
    assert by_port(found, a, b, unhinted) == {"a": "1", "b": "1 2 3"}


def test_policies_and_hints_are_decided_for_each_family() -> None:
    six = [SliceEndpoint("fd00::1", node_name="there", for_zones=("b",)), SliceEndpoint("fd00::2", node_name="there", for_zones=("a",))]
    slices = [slice_of("s", HERE, THERE), slice_of("t", *six)]
    cluster = {one.key.vip: len(one.endpoints) for one in routes_of(PLAIN, slices, NODE).routes}
    assert cluster == {"10.96.0.1": 2, "fd96::1": 1}
    local = {one.key.vip: one.silent for one in routes_of(replace(PLAIN, internal_local=True), slices, NODE).routes}
    assert local == {"10.96.0.1": False, "fd96::1": True}


def test_the_short_cut_of_pods_to_an_external_address_obeys_hints_like_policy_cluster() -> None:
    endpoints = [replace(HERE, for_zones=("b",)), replace(THERE, for_zones=("a",))]
    routes = routes_of(replace(REACHED_FROM_OUTSIDE, external_local=True), [slice_of("s", *endpoints)], NODE).routes
    for one in routes:
        if ":" not in one.key.vip:
            inside = one.endpoints if one.inside is None else one.inside
            assert [endpoint.address for endpoint in inside] == ["10.0.0.2"]
            assert outcome(one) == ("2" if one.address_class is AddressClass.CLUSTER_IP else "1")
