"""Whether the client's address is kept: every line of the contract."""

from __future__ import annotations

import ipaddress

import pytest
from msgspec.structs import replace

from uproxy.core.source_address import Path, Placement, Pods, keeps_client, placement_of

NODE_CIDRS = Pods((ipaddress.ip_network("10.1.0.0/24"),))
BRIDGE, VETH, OTHER_VETH, UPLINK = 5, 6, 7, 2

OWN = Placement(reached=True, own=True, device=1)
OUTSIDE = Placement(reached=True, device=UPLINK)
REMOTE_POD = Placement(reached=True, device=UPLINK)
TUNNELLED = Placement(reached=True, device=9)
SEVERAL_WAYS = Placement(reached=True)
NOWHERE = Placement()
POD = Placement(reached=True, local_pod=True, host_route=True, device=VETH)
POD2 = Placement(reached=True, local_pod=True, host_route=True, device=OTHER_VETH)
BRIDGED = Placement(reached=True, local_pod=True, host_route=True, device=BRIDGE)
NEIGHBOUR = Placement(reached=True, local_pod=True, device=BRIDGE)
STRANGER_ON_BRIDGE = Placement(reached=True, device=BRIDGE)

KEPT = [
    pytest.param(POD, POD2, id="between pods behind a veth each"),
    pytest.param(POD, REMOTE_POD, id="pod to a pod of another node"),
    pytest.param(POD, TUNNELLED, id="pod to somewhere through a tunnel"),
    pytest.param(POD, OUTSIDE, id="pod to outside"),
    pytest.param(POD, SEVERAL_WAYS, id="pod to somewhere over several uplinks"),
    pytest.param(NEIGHBOUR, REMOTE_POD, id="bridged pod to a pod of another node"),
    pytest.param(BRIDGED, BRIDGED, id="between pods of one bridge that both have host routes"),
    pytest.param(POD, NEIGHBOUR, id="pod to a pod on another device"),
    pytest.param(OUTSIDE, POD, id="outside to a pod of this node"),
    pytest.param(OUTSIDE, NEIGHBOUR, id="outside to a bridged pod of this node"),
    pytest.param(NOWHERE, POD, id="a client without a route back, for which it makes no difference"),
]
NOT_KEPT = [
    pytest.param(NEIGHBOUR, NEIGHBOUR, id="between layer-2 neighbours"),
    pytest.param(BRIDGED, NEIGHBOUR, id="on one device, when only the client has a host route"),
    pytest.param(NEIGHBOUR, BRIDGED, id="on one device, when only the endpoint has a host route"),
    pytest.param(POD, OWN, id="to an address of this node"),
    pytest.param(OUTSIDE, OWN, id="outside to an address of this node"),
    pytest.param(OWN, POD, id="from this node"),
    pytest.param(OWN, OUTSIDE, id="from this node to outside"),
    pytest.param(OUTSIDE, OUTSIDE, id="passing through"),
    pytest.param(OUTSIDE, REMOTE_POD, id="outside to a pod of another node"),
    pytest.param(NEIGHBOUR, STRANGER_ON_BRIDGE, id="to somebody on the same wire who is no pod"),
    pytest.param(STRANGER_ON_BRIDGE, NEIGHBOUR, id="from somebody on the same wire who is no pod"),
    pytest.param(POD, NOWHERE, id="to where no route leads"),
    pytest.param(NOWHERE, NOWHERE, id="when nothing is known"),
]


@pytest.mark.parametrize(("client", "endpoint"), KEPT)
def test_the_address_is_kept(client: Placement, endpoint: Placement) -> None:
    assert keeps_client("10.1.0.1", client, "10.1.0.2", endpoint)


@pytest.mark.parametrize(("client", "endpoint"), NOT_KEPT)
def test_the_nodes_address_is_used(client: Placement, endpoint: Placement) -> None:
    assert not keeps_client("10.1.0.1", client, "10.1.0.2", endpoint)


def test_a_pod_that_reaches_itself_gets_the_nodes_address() -> None:
    assert not keeps_client("10.1.0.1", POD, "10.1.0.1", POD)


def path(*, local: bool = False, whole: bool = True, on_link: bool = True, by_default_device: bool = False) -> Path:
    """Make a path over the veth."""
    return Path(local=local, whole=whole, on_link=on_link, device=VETH, by_default_device=by_default_device)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, NOWHERE),
        (path(local=True), Placement(reached=True, own=True, device=VETH)),
        (path(), POD),
        (path(by_default_device=True), Placement(reached=True, host_route=True, device=VETH)),
        (path(on_link=False), Placement(reached=True, device=VETH)),
        (path(whole=False), Placement(reached=True, device=VETH)),
    ],
)
def test_without_pod_cidrs_an_on_link_host_route_makes_a_local_pod(found: Path | None, expected: Placement) -> None:
    assert placement_of("10.1.0.1", found, Pods()) == expected


@pytest.mark.parametrize(
    ("address", "found", "is_pod"),
    [
        ("10.1.0.1", path(), True),
        ("10.1.0.1", path(whole=False), True),
        ("10.1.0.1", path(by_default_device=True), True),
        ("10.2.0.1", path(), False),
        ("fd00::1", path(), True),
        ("fd00::1", path(whole=False), False),
    ],
)
def test_pod_cidrs_decide_for_their_family(address: str, found: Path, is_pod: bool) -> None:  # noqa: FBT001 - a column of the table
    assert placement_of(address, found, NODE_CIDRS).local_pod is is_pod


def test_an_address_of_the_node_inside_its_pod_cidr_is_no_pod() -> None:
    found = placement_of("10.1.0.1", path(local=True), NODE_CIDRS)
    assert found.own
    assert not found.local_pod


CLUSTER = (ipaddress.ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("pods", "address", "found", "is_pod"),
    [
        pytest.param(Pods(within=CLUSTER), "10.1.0.1", path(), True, id="a pod of the cluster behind a host route"),
        pytest.param(Pods(within=CLUSTER), "10.1.0.1", path(whole=False), False, id="a pod of another node"),
        pytest.param(Pods(within=CLUSTER), "11.1.0.1", path(), False, id="no pod, though behind a host route"),
        pytest.param(Pods(within=CLUSTER), "fd00::1", path(), True, id="a family without a cluster CIDR"),
        pytest.param(replace(NODE_CIDRS, within=CLUSTER), "10.1.0.1", path(whole=False), True, id="a pod by both CIDRs"),
        pytest.param(replace(NODE_CIDRS, within=CLUSTER), "10.2.0.1", path(), False, id="a pod of the cluster outside the node's CIDR"),
        pytest.param(replace(NODE_CIDRS, node_cidrs_alone=True), "fd00::1", path(), False, id="a family for which the node has no CIDR"),
        pytest.param(Pods(devices=frozenset({VETH})), "10.1.0.1", path(whole=False), True, id="behind the pods' device"),
        pytest.param(Pods(devices=frozenset({BRIDGE})), "10.1.0.1", path(), False, id="behind another device"),
        pytest.param(replace(NODE_CIDRS, devices=frozenset({BRIDGE})), "10.1.0.1", path(), False, id="CIDRs mean nothing where devices do"),
    ],
)
def test_each_way_of_telling_pods_is_followed(pods: Pods, address: str, found: Path, is_pod: bool) -> None:  # noqa: FBT001 - as above
    assert placement_of(address, found, pods).local_pod is is_pod
