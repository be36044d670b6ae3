"""The address that an endpoint sees: the client's own where its answers must come back through the node, else the node's."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.stand import Stand
from tests.lab.ways import FAMILIES, PROTOCOLS, Way, ask

if TYPE_CHECKING:
    from tests.lab.manifests import Served

pytestmark = pytest.mark.netns

KEPT = [
    ("pod", "pod2"),
    ("bridged", "bridged2"),
    ("pod", "bridged"),
    ("bridged", "pod"),
    ("neighbour", "bridged"),
    ("pod", "neighbour"),
    ("pod", "remote"),
    ("bridged", "remote"),
    ("pod", "node2"),
    ("pod", "outside"),
    ("outside", "pod"),
    ("outside", "bridged"),
    ("remote", "pod"),
]
REPLACED = [
    ("pod", "pod"),
    ("bridged", "bridged"),
    ("neighbour", "neighbour"),
    ("neighbour", "neighbour2"),
    ("pod", "node"),
    ("bridged", "node"),
    ("neighbour", "node"),
    ("outside", "node"),
    ("outside", "remote"),
    ("outside", "outside"),
    ("node", "pod"),
    ("node", "neighbour"),
    ("node", "remote"),
    ("node", "node"),
]
BY_POD_CIDR = [("neighbour", "remote"), ("outside", "neighbour")]
"""Clients and endpoints on a shared network: local pods because the node's podCIDRs say so, not by their routes."""


def serve_every_host(stand: Stand) -> dict[str, Served]:
    names = {endpoint for _, endpoint in (*KEPT, *REPLACED, *BY_POD_CIDR)}
    return {name: stand.serve(name, stand.lab[name]) for name in sorted(names)}


@pytest.fixture(scope="module")
def behind(shared: Stand) -> dict[str, Served]:
    return serve_every_host(shared)


def assert_kept(stand: Stand, served: Served, way: Way) -> None:
    answer = ask(stand, served, way)
    assert (answer.name, answer.address) == (served.name, stand.lab[way.who].address(way.family))


def assert_replaced(stand: Stand, served: Served, way: Way) -> None:
    answer = ask(stand, served, way)
    assert answer.name == served.name
    assert answer.address in stand.lab.node.every_address()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("address_class", ["ClusterIP", "NodePort"])
@pytest.mark.parametrize("pair", [*KEPT, *BY_POD_CIDR], ids="-".join)
def test_the_clients_address_is_kept(
    shared: Stand, behind: dict[str, Served], pair: tuple[str, str], address_class: str, family: int
) -> None:
    who, endpoint = pair
    for protocol in PROTOCOLS:
        assert_kept(shared, behind[endpoint], Way(who, address_class, family, protocol))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("address_class", ["ClusterIP", "NodePort"])
@pytest.mark.parametrize("pair", REPLACED, ids="-".join)
def test_the_nodes_address_takes_the_clients_place(
    shared: Stand, behind: dict[str, Served], pair: tuple[str, str], address_class: str, family: int
) -> None:
    who, endpoint = pair
    for protocol in PROTOCOLS:
        assert_replaced(shared, behind[endpoint], Way(who, address_class, family, protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_annotation_of_the_service_gives_the_nodes_address(shared: Stand, family: int, protocol: client.Protocol) -> None:
    annotations = {"uproxy.io/keep-client-address": "never"}
    served = shared.serve(f"plain-{family}-{protocol}".lower(), shared.lab.pod2, annotations=annotations)
    answer = client.ask(shared.lab.pod, served.vip(family), served.port, protocol)
    assert answer.address in shared.lab.node.every_address()


@pytest.mark.parametrize("family", FAMILIES)
def test_source_ports_of_kept_addresses_come_from_their_own_range(shared: Stand, behind: dict[str, Served], family: int) -> None:
    ports = {client.ask(shared.lab.pod, behind["pod2"].vip(family), 80).port for _ in range(20)}
    assert all(61000 <= port <= 65535 for port in ports)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_client_socket_may_use_two_services_with_the_same_endpoint(shared: Stand, family: int) -> None:
    """Both flows have the client's address and the same endpoint: each must get its own answers all the same."""
    one, other = (shared.serve(f"{name}-{family}", shared.lab.pod2) for name in ("one", "other"))
    with client.open_socket(shared.lab.pod, one.vip(family), socket.SOCK_DGRAM) as conversation:
        for served in (one, other, one, other):
            conversation.sendto(served.name.encode(), (served.vip(family), served.port))
            answer, sender = conversation.recvfrom(64)
            assert (answer.decode(), *sender[:2]) == (served.name, served.vip(family), served.port)


def test_without_pod_cidrs_the_routes_tell_what_a_local_pod_is(stand: Stand) -> None:
    stand.services.write_node(stand.lab.node, pod_cidrs=[])
    stand.start()
    behind = serve_every_host(stand)
    for family in FAMILIES:
        for who, endpoint in KEPT:
            assert_kept(stand, behind[endpoint], Way(who, "ClusterIP", family, "TCP"))
        for who, endpoint in (*REPLACED, *BY_POD_CIDR):
            assert_replaced(stand, behind[endpoint], Way(who, "ClusterIP", family, "TCP"))


def test_the_flag_switches_it_off(stand: Stand) -> None:
    stand.start("--keep-client-address", "never")
    served = stand.serve("pod2", stand.lab.pod2)
    for who in ("pod", "outside"):
        for family in FAMILIES:
            for protocol in PROTOCOLS:
                assert_replaced(stand, served, Way(who, "ClusterIP", family, protocol))
