"""The routes of one Service: its addresses, and which endpoints stand behind each of them."""

from __future__ import annotations

import itertools

import pytest

from tests.core.objects import HTTP, route, service, slice_of
from uproxy.core.model import (
    AddressClass,
    Endpoint,
    EndpointSlice,
    Protocol,
    RouteKey,
    Service,
    ServicePort,
    ServicePortName,
    SliceEndpoint,
    SlicePort,
)
from uproxy.core.policy import NodeView, routes_of

NODE = NodeView("n1", ("192.168.0.1", "fd99::1"))
TCP, UDP = Protocol.TCP, Protocol.UDP


def endpoints_of(*slices: EndpointSlice, of: Service | None = None, node: NodeView = NODE) -> list[str]:
    (only,) = routes_of(of or service(), slices, node).routes
    return [str(endpoint) for endpoint in only.endpoints]


def condition(address: str, *, ready: bool = True, serving: bool = True, terminating: bool = False, node: str = "") -> SliceEndpoint:
    return SliceEndpoint(address, ready, serving, terminating, node or None)


def test_a_cluster_ip_gets_a_route_per_port() -> None:
    found = routes_of(service(ports=(HTTP, ServicePort("dns", UDP, 53))), [], NODE).routes
    assert [str(one.key) for one in found] == ["10.96.0.1:80/TCP", "10.96.0.1:53/UDP"]
    assert [one.service_port for one in found] == [
        ServicePortName("default", "web", "http", TCP),
        ServicePortName("default", "web", "dns", UDP),
    ]


def test_a_service_without_slices_has_routes_without_endpoints() -> None:
    assert routes_of(service(), [], NODE).routes == (route("10.96.0.1"),)


def test_a_node_port_is_served_on_the_node_port_addresses_alone() -> None:
    dual = service("web", "10.96.0.1", "fd96::1", ports=(ServicePort("http", TCP, 80, 30080),))
    assert [(str(one.key), one.address_class) for one in routes_of(dual, [], NODE).routes] == [
        ("10.96.0.1:80/TCP", AddressClass.CLUSTER_IP),
        ("[fd96::1]:80/TCP", AddressClass.CLUSTER_IP),
        ("192.168.0.1:30080/TCP", AddressClass.NODE_PORT),
        ("[fd99::1]:30080/TCP", AddressClass.NODE_PORT),
    ]


def test_an_external_ip_is_served_with_the_service_port() -> None:
    found = routes_of(service(external_ips=("203.0.113.7",)), [slice_of("s", "10.0.0.1")], NODE).routes
    assert found == (
        route("10.96.0.1", "10.0.0.1:8080"),
        route("203.0.113.7", "10.0.0.1:8080", address_class=AddressClass.EXTERNAL_IP),
    )


def test_each_family_has_its_own_endpoints() -> None:
    dual = service("web", "10.96.0.1", "fd96::1")
    four, six = routes_of(dual, [slice_of("a", "10.0.0.1"), slice_of("b", "fd00::1")], NODE).routes
    assert four.endpoints == (Endpoint("10.0.0.1", 8080),)
    assert six.endpoints == (Endpoint("fd00::1", 8080),)


def test_the_same_number_with_two_protocols_is_two_routes_with_their_own_endpoints() -> None:
    both = service(ports=(ServicePort("dns", UDP, 53), ServicePort("dns-tcp", TCP, 53)))
    ports = (SlicePort("dns", UDP, 5353), SlicePort("dns-tcp", TCP, 5354))
    found = routes_of(both, [slice_of("s", "10.0.0.1", ports=ports)], NODE).routes
    assert [(one.key.protocol, one.endpoints[0].port) for one in found] == [(UDP, 5353), (TCP, 5354)]


def test_a_slice_port_is_joined_by_name_and_protocol() -> None:
    ports = (SlicePort("", TCP, 1), SlicePort("http", UDP, 2), SlicePort("other", TCP, 3), SlicePort("http", TCP, 8080))
    assert endpoints_of(slice_of("s", "10.0.0.1", ports=ports)) == ["10.0.0.1:8080"]


def test_an_unnamed_port_is_joined_to_the_unnamed_slice_port() -> None:
    unnamed = service(ports=(ServicePort("", TCP, 80),))
    assert endpoints_of(slice_of("s", "10.0.0.1", ports=(SlicePort("", TCP, 8080),)), of=unnamed) == ["10.0.0.1:8080"]


def test_slices_may_give_one_port_different_numbers() -> None:
    other = slice_of("b", "10.0.0.2", ports=(SlicePort("http", TCP, 9090),))
    assert endpoints_of(slice_of("a", "10.0.0.1"), other) == ["10.0.0.1:8080", "10.0.0.2:9090"]


READINESS: dict[str, tuple[list[SliceEndpoint], list[str]]] = {
    "ready": ([condition("10.0.0.1")], ["10.0.0.1:8080"]),
    "not ready": ([condition("10.0.0.1", ready=False, serving=False)], []),
    "serving but neither ready nor terminating": ([condition("10.0.0.1", ready=False)], []),
    "terminating and serving is the fallback": ([condition("10.0.0.1", ready=False, terminating=True)], ["10.0.0.1:8080"]),
    "terminating and not serving is none": ([condition("10.0.0.1", ready=False, serving=False, terminating=True)], []),
    "one ready endpoint ends the fallback": (
        [condition("10.0.0.1", ready=False, terminating=True), condition("10.0.0.2")],
        ["10.0.0.2:8080"],
    ),
    "an unready one does not": (
        [condition("10.0.0.1", ready=False, terminating=True), condition("10.0.0.2", ready=False, serving=False)],
        ["10.0.0.1:8080"],
    ),
    "ready and terminating, as publishNotReadyAddresses makes them, is ready": (
        [condition("10.0.0.1", terminating=True), condition("10.0.0.2")],
        ["10.0.0.1:8080", "10.0.0.2:8080"],
    ),
}


@pytest.mark.parametrize(("endpoints", "expected"), READINESS.values(), ids=READINESS)
def test_endpoints_are_chosen_by_their_conditions(endpoints: list[SliceEndpoint], expected: list[str]) -> None:
    assert expected == endpoints_of(slice_of("s", *endpoints))


def test_the_fallback_is_decided_per_family() -> None:
    dual = service("web", "10.96.0.1", "fd96::1")
    slices = [slice_of("a", condition("10.0.0.1", ready=False, terminating=True)), slice_of("b", "fd00::1")]
    four, six = routes_of(dual, slices, NODE).routes
    assert four.endpoints == (Endpoint("10.0.0.1", 8080),)
    assert six.endpoints == (Endpoint("fd00::1", 8080),)


def test_an_endpoint_in_two_slices_counts_once() -> None:
    assert endpoints_of(slice_of("a", "10.0.0.1", "10.0.0.2"), slice_of("b", "10.0.0.2", "10.0.0.3")) == [
        "10.0.0.1:8080",
        "10.0.0.2:8080",
        "10.0.0.3:8080",
    ]


def test_one_address_with_two_ports_is_two_endpoints() -> None:
    other = slice_of("b", "10.0.0.1", ports=(SlicePort("http", TCP, 9090),))
    assert endpoints_of(slice_of("a", "10.0.0.1"), other) == ["10.0.0.1:8080", "10.0.0.1:9090"]


def test_the_order_of_slices_and_endpoints_means_nothing() -> None:
    slices = [slice_of("a", "10.0.0.3", "10.0.0.1"), slice_of("b", "10.0.0.2"), slice_of("c", condition("10.0.0.1", ready=False))]
    outcomes = {routes_of(service(), order, NODE).routes for order in itertools.permutations(slices)}
    assert len(outcomes) == 1


def test_affinity_and_the_wish_about_client_addresses_go_with_every_route() -> None:
    wishing = Service(service().key, ("10.96.0.1",), (HTTP,), ("203.0.113.7",), affinity_seconds=60, keep_client_address=False)
    assert {(one.affinity_seconds, one.keep_client_address) for one in routes_of(wishing, [], NODE).routes} == {(60, False)}


@pytest.mark.parametrize(
    ("local", "field"),
    [
        (service("web", "127.0.0.10"), "spec.clusterIPs"),
        (service("web", "::1"), "spec.clusterIPs"),
        (service("web", "10.96.0.1", external_ips=("127.0.0.10",)), "spec.externalIPs"),
    ],
    ids=["cluster IP", "IPv6", "external IP"],
)
def test_a_loopback_address_is_refused_unless_the_back_end_can_serve_it(local: Service, field: str) -> None:
    found = routes_of(local, [], NODE)
    assert [(one.subject, one.field) for one in found.refusals] == [("Service default/web", field)]
    assert len(found.routes) == len(local.cluster_ips) + len(local.external_ips) - 1
    allowed = routes_of(local, [], NodeView("n1", loopback_vips=True))
    assert not allowed.refusals
    assert len(allowed.routes) == len(local.cluster_ips) + len(local.external_ips)


def test_an_external_ip_that_is_the_cluster_ip_changes_nothing() -> None:
    found = routes_of(service("web", "10.96.0.1", external_ips=("10.96.0.1",)), [], NODE)
    assert found.routes == (route("10.96.0.1"),)
    assert not found.refusals


def test_two_ports_of_a_service_that_meet_on_one_address_are_told_apart_and_the_first_has_it() -> None:
    ports = (ServicePort("a", TCP, 30081), ServicePort("b", TCP, 80, 30081))
    found = routes_of(service("web", "10.96.0.1", external_ips=("192.168.0.1",), ports=ports), [], NODE)
    held = {one.key: one.service_port.port for one in found.routes}
    assert held[RouteKey("192.168.0.1", TCP, 30081)] == "a"
    (refusal,) = found.refusals
    assert "192.168.0.1:30081/TCP" in refusal.reason
    assert "'a'" in refusal.reason


def test_addresses_of_one_class_and_family_share_their_list_of_endpoints() -> None:
    found = routes_of(service(external_ips=("203.0.113.7", "203.0.113.8")), [slice_of("s", "10.0.0.1")], NODE).routes
    assert len({id(one.endpoints) for one in found}) == 1
