"""Where addresses are, asked of a real node's routing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.lab import wiring
from tests.lab.topology import Lab
from uproxy.core.model import Endpoint
from uproxy.redirect.placement import ClientAddresses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns

EVERYONE = ("pod", "pod2", "bridged", "bridged2", "neighbour", "neighbour2", "remote", "outside", "node", "node2")
LOCAL_PODS = {"pod", "pod2", "bridged", "bridged2", "neighbour", "neighbour2"}
SINGLE = {"pod", "pod2", "bridged", "bridged2"}
LINE = {"pod": 1, "pod2": 2, "bridged": 3, "bridged2": 3, "neighbour": 4, "neighbour2": 4}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def kept(node: Namespace, pod_cidrs: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[bool]:
    """Ask for pairs of client and endpoint addresses."""

    def body() -> list[bool]:
        asked = ClientAddresses(pod_cidrs)
        try:
            return [asked.keeps(client, Endpoint(endpoint, 80)) for client, endpoint in pairs]
        finally:
            asked.close()

    return node.call(body)


def expected(client: str, endpoint: str, pods: set[str]) -> bool:
    """Say what the contract says, in the lab's own terms."""
    if client == endpoint or "node" in (client, endpoint):
        return False
    if client not in pods:
        return endpoint in pods
    if endpoint not in pods:
        return LINE[client] != LINE.get(endpoint)
    return LINE[client] != LINE[endpoint] or {client, endpoint} <= SINGLE


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("pod_cidrs", "pods"),
    [
        pytest.param(wiring.POD_CIDRS, LOCAL_PODS, id="podCIDRs"),
        pytest.param((), SINGLE, id="host routes alone"),
    ],
)
def test_the_address_is_kept_between_exactly_the_right_pairs(lab: Lab, pod_cidrs: tuple[str, ...], pods: set[str], family: int) -> None:
    pairs = [(client, endpoint) for client in EVERYONE for endpoint in EVERYONE]
    asked = [(lab[client].address(family), lab[endpoint].address(family)) for client, endpoint in pairs]
    found = kept(lab.node.namespace, pod_cidrs, asked)
    wrong = [pair for pair, answer in zip(pairs, found, strict=True) if answer is not expected(*pair, pods)]
    assert not wrong


def test_podcidrs_of_one_family_leave_the_other_one_to_host_routes(lab: Lab) -> None:
    for family, answer in ((4, True), (6, False)):
        pair = (lab.neighbour.address(family), lab.pod.address(family))
        reverse = (lab.neighbour.address(family), lab.remote.address(family))
        assert kept(lab.node.namespace, ["10.244.1.0/24", "10.244.2.0/24"], [pair, reverse]) == [True, answer]


def test_a_host_route_on_the_default_routes_device_is_no_pod(lab: Lab) -> None:
    lab.node.namespace.ip("route add 10.0.1.77/32 dev eth0")
    try:
        assert kept(lab.node.namespace, (), [("10.0.1.77", lab.remote.address(4))]) == [False]
    finally:
        lab.node.namespace.ip("route del 10.0.1.77/32 dev eth0")


def test_an_address_without_a_route_is_in_doubt(lab: Lab) -> None:
    lab.node.namespace.ip("route add unreachable 203.0.113.0/24")
    try:
        assert kept(lab.node.namespace, wiring.POD_CIDRS, [(lab.pod.address(4), "203.0.113.1")]) == [False]
    finally:
        lab.node.namespace.ip("route del unreachable 203.0.113.0/24")


def test_a_change_of_routes_is_seen_by_the_next_connection(lab: Lab) -> None:
    node, pod, remote = lab.node.namespace, lab.pod.address(4), Endpoint(lab.remote.address(4), 80)

    async def body() -> None:
        asked = ClientAddresses()
        asked.watch(lambda: None)
        try:
            assert asked.keeps(pod, remote)
            await asyncio.to_thread(node.ip, f"route replace {pod}/32 via 10.0.1.254 dev eth0")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not asked.keeps(pod, remote)
            await asyncio.to_thread(node.ip, f"route replace {pod}/32 dev to-pod")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert asked.keeps(pod, remote)
        finally:
            asked.close()

    node.call(asyncio.run, body())


def test_other_podcidrs_are_taken_at_once(lab: Lab) -> None:
    def body() -> list[bool]:
        asked = ClientAddresses()
        pair = (lab.neighbour.address(4), Endpoint(lab.remote.address(4), 80))
        before = asked.keeps(*pair)
        asked.set_pod_cidrs(wiring.POD_CIDRS)
        after = asked.keeps(*pair)
        asked.close()
        return [before, after]

    assert lab.node.namespace.call(body) == [False, True]


def test_a_flood_of_clients_is_answered_with_bounded_memory(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uproxy.redirect.placement._REMEMBERED", 100)

    def body() -> int:
        asked = ClientAddresses(wiring.POD_CIDRS)
        endpoint = Endpoint(lab.pod.address(4), 80)
        assert all(asked.keeps(f"198.18.{number // 250}.{number % 250}", endpoint) for number in range(1000))
        remembered = len(asked._places)
        asked.close()
        return remembered

    assert lab.node.namespace.call(body) <= 100
