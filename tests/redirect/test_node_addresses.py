"""The addresses of the node, and which is primary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from uproxy.core.model import Family
from uproxy.redirect.node_addresses import NodeAddresses, primary, read
from uproxy.redirect.rtnetlink import InterfaceAddress

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace

LO, ETH0, ETH1 = 1, 2, 3
GLOBAL, LINK, HOST = 0, 253, 254
DEPRECATED = 0x20


def address(text: str, device: int, scope: int = GLOBAL, flags: int = 0) -> InterfaceAddress:
    return InterfaceAddress(text, 128 if ":" in text else 32, device, scope, flags)


ADDRESSES = (
    address("127.0.0.1", LO, HOST),
    address("10.0.0.9", ETH0),
    address("10.0.1.1", ETH1),
    address("10.0.1.2", ETH1),
    address("::1", LO, HOST),
    address("fe80::1", ETH0, LINK),
    address("fd00::9", ETH0, flags=DEPRECATED),
    address("fd00::1", ETH0),
)


def node(*default_devices: int) -> NodeAddresses:
    return NodeAddresses(ADDRESSES, {Family.IPV4: default_devices})


@pytest.mark.parametrize(
    ("found", "stated", "expected"),
    [
        pytest.param(node(), (), "10.0.0.9", id="the first global one"),
        pytest.param(node(ETH1), (), "10.0.1.1", id="the first of the default route's device"),
        pytest.param(node(ETH0, ETH1), (), "10.0.0.9", id="the better default route's"),
        pytest.param(node(7, ETH1), (), "10.0.1.1", id="the next default route's, when the best device has none"),
        pytest.param(node(ETH0), ("10.0.1.2",), "10.0.1.2", id="what the Node says"),
        pytest.param(node(ETH0), ("192.0.2.1", "10.0.1.2"), "10.0.1.2", id="what the Node says and the node has"),
        pytest.param(node(ETH1), ("192.0.2.1",), "10.0.1.1", id="not what the node does not have"),
        pytest.param(node(ETH1), ("fd00::1",), "10.0.1.1", id="not what is of the other family"),
        pytest.param(NodeAddresses(), (), None, id="none at all"),
        pytest.param(NodeAddresses(ADDRESSES[:1]), (), None, id="not the loopback address"),
    ],
)
def test_the_primary_address_is(found: NodeAddresses, stated: tuple[str, ...], expected: str | None) -> None:
    assert primary(found, stated).get(Family.IPV4) == expected


def test_a_link_local_or_deprecated_address_is_not_primary() -> None:
    assert primary(node())[Family.IPV6] == "fd00::1"


@pytest.mark.netns
def test_addresses_and_default_routes_are_read_from_the_kernel(host: Namespace) -> None:
    host.ip("link add up-a type bridge", "link add up-b type bridge", "link set up-a up", "link set up-b up")
    host.ip("addr add 10.0.0.9/24 dev up-a", "addr add 10.0.1.1/24 dev up-b", "addr add fd00::1/64 dev up-b nodad")
    host.ip("route add default via 10.0.0.1 metric 200", "route add default via 10.0.1.254 metric 100")
    host.ip("route add default via fd00::fe")
    found = host.call(read)
    assert found.texts >= {"127.0.0.1", "::1", "10.0.0.9", "10.0.1.1", "fd00::1"}
    assert primary(found) == {Family.IPV4: "10.0.1.1", Family.IPV6: "fd00::1"}


@pytest.mark.netns
def test_the_default_route_over_several_devices_is_followed(host: Namespace) -> None:
    host.ip("link add up-a type bridge", "link add up-b type bridge", "link set up-a up", "link set up-b up")
    host.ip("addr add 10.0.0.9/24 dev up-a", "addr add 10.0.1.1/24 dev up-b")
    host.ip("route add default nexthop via 10.0.1.254 nexthop via 10.0.0.1")
    assert primary(host.call(read)) == {Family.IPV4: "10.0.1.1"}


@pytest.mark.netns
def test_a_tentative_address_does_not_count_yet(host: Namespace) -> None:
    host.sysctl({"net.ipv6.conf.default.dad_transmits": 60})
    # Its other end is up too, so that the kernel begins to look for duplicates, which it will do for a minute.
    host.ip("link add up-a type veth peer name up-b", "link set up-b up", "link set up-a up", "addr add fd00::5/64 dev up-a")
    assert "tentative" in host.run("ip", "-6", "addr", "show", "dev", "up-a")
    assert "fd00::5" not in host.call(read).texts


@pytest.mark.netns
def test_with_ipv6_off_there_are_only_ipv4_addresses(host: Namespace) -> None:
    host.sysctl({"net.ipv6.conf.all.disable_ipv6": 1})
    assert host.call(read).texts == {"127.0.0.1"}
