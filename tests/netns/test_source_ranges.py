"""loadBalancerSourceRanges as packets show them: who is let in is exactly who is in a range, whoever else asks hears nothing.

test_external_addresses.py has what belongs to the life of a Service; here are the program that the kernel runs, the other
redirect back ends, addresses of the node's own, and that what is dropped neither is answered nor costs the process anything.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab import client
from tests.lab.manifests import targets
from tests.lab.namespaces import Namespaces
from tests.lab.ways import FAMILIES, PROTOCOLS
from tests.lab.wiring import ADDRESSES
from tests.netns.answering import QUIET, await_answers, await_silence
from uproxy.core.admission import program
from uproxy.core.model import Family
from uproxy.dataplane.admitting import admit
from uproxy.dataplane.udp_sockets import kernel_drops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespaces import Namespace
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

NODE = ADDRESSES["node"]
OUTSIDE = ("10.0.9.0/24", "fd10:0:9::/64")
ONLY_THE_NODE = ("10.0.1.1/32", "fd10:0:1::1/128")
SPACE: Final = {4: "10.0.0.0/8", 6: "fd00::/16"}
"""Addresses that the namespace of a property test has, all of them."""
KINDS: Final = {4: (socket.AF_INET, "10.0.0.1"), 6: (socket.AF_INET6, "fd00::1")}
# linux/in.h, linux/in6.h; the socket module does not know them.
IP_PKTINFO: Final = 8
FREEBIND: Final = {4: (socket.IPPROTO_IP, 15, 1), 6: (socket.IPPROTO_IPV6, 78, 1)}
Lists = tuple[tuple[str, ...], ...]


def behind(stand: Stand) -> list[tuple[str, int]]:
    return targets([stand.lab.pod2])


# The program.


@pytest.fixture(scope="module")
def everywhere() -> Iterator[Namespace]:
    """Give a host that has every address of SPACE."""
    namespaces = Namespaces()
    (made,) = namespaces.make("many")
    made.ip("link set lo up", *(f"route add local {space} dev lo" for space in SPACE.values()))
    yield made
    namespaces.remove()


class Gate:
    """A datagram socket with lists on it, and a client that can send from any address. A context manager."""

    def __init__(self, host: Namespace, family: int) -> None:
        kind, address = KINDS[family]
        self._family = family
        self._listener = host.call(socket.socket, kind, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._client = host.call(socket.socket, kind, socket.SOCK_DGRAM)
        for each in (self._listener, self._client):
            each.setsockopt(*FREEBIND[family])
        self._listener.bind((address, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._client.close()

    def admit(self, lists: Lists) -> None:
        """Put the lists on it."""
        admit(self._listener, lists)

    def lets_in(self, source: str) -> bool:
        """Send from an address and tell what became of it; the loopback device delivers before the sending ends."""
        dropped = kernel_drops(self._listener)
        packed = ipaddress.ip_address(source).packed
        if self._family == 4:
            told = (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4s", 0, packed, packed))
        else:
            told = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", packed, 0))
        self._client.sendmsg([source.encode()], [told], 0, self._listener.getsockname())
        try:
            assert self._listener.recv(64).decode() == source
        except BlockingIOError:
            assert kernel_drops(self._listener) == dropped + 1
            return False
        return True


def networks(family: int) -> st.SearchStrategy[str]:
    """Draw networks in and around SPACE, of any length."""
    whole = ipaddress.ip_network(SPACE[family])
    first, last = int(whole.network_address), int(whole.broadcast_address)
    numbers = st.one_of(st.integers(first, last), st.integers(first, first + 300))
    return st.builds(
        lambda number, length: str(ipaddress.ip_network((number, length), strict=False)), numbers, st.integers(0, whole.max_prefixlen)
    )


def probes(lists: Lists, family: int) -> list[str]:
    """Give the addresses at both edges of every network and just beyond, and some more."""
    whole = ipaddress.ip_network(SPACE[family])
    first, last = int(whole.network_address) + 2, int(whole.broadcast_address) - 1
    edges = {first, last, (first + last) // 2}
    for network in (ipaddress.ip_network(cidr) for cidrs in lists for cidr in cidrs):
        for edge in (int(network.network_address), int(network.broadcast_address)):
            edges.update(number for number in (edge - 1, edge, edge + 1) if first <= number <= last)
    return [str(type(whole.network_address)(edge)) for edge in edges]


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_addresses_that_are_in_every_list_are_let_in(everywhere: Namespace, family: int) -> None:
    @settings(max_examples=150)
    @given(st.lists(st.lists(networks(family), max_size=6).map(tuple), max_size=3).map(tuple))
    def holds(lists: Lists) -> None:
        gate.admit(lists)
        parsed = [[ipaddress.ip_network(cidr) for cidr in cidrs] for cidrs in lists]
        for probe in probes(lists, family):
            wanted = all(any(ipaddress.ip_address(probe) in network for network in cidrs) for cidrs in parsed)
            assert gate.lets_in(probe) == wanted, probe

    with Gate(everywhere, family) as gate:
        holds()


def many(number: int) -> tuple[str, ...]:
    """Give networks that cannot be joined."""
    return tuple(f"fd00:{2 * index:x}::/64" for index in range(number))


def test_a_list_that_is_longer_than_any_program_is_refused_and_the_former_one_holds(everywhere: Namespace) -> None:
    with Gate(everywhere, 6) as gate:
        gate.admit((("fd00::7/128",),))
        with pytest.raises(OSError, match="too long") as raised:
            gate.admit((many(820),))
        assert raised.value.errno == errno.E2BIG
        assert gate.lets_in("fd00::7")
        assert not gate.lets_in("fd00::8")


def test_lists_that_fit_in_only_one_at_a_time_can_replace_each_other(everywhere: Namespace) -> None:
    """The kernel counts both against net.core.optmem_max while they change places."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as alone:
        length = next(number for number in range(800, 0, -50) if fits(alone, number)) - 50
    with Gate(everywhere, 6) as gate:
        for number in (length, length - 1, length):
            gate.admit((("fd00::7/128", *many(number)[1:]),))
            assert gate.lets_in("fd00::7")
            assert not gate.lets_in("fd00::8")


def fits(sock: socket.socket, number: int) -> bool:
    try:
        admit(sock, (many(number),))
    except OSError:
        return False
    return True


def test_who_restricts_nothing_has_no_program() -> None:
    assert program((), Family.IPV4) == ()


# What packets show.


@pytest.fixture
def sniffed(shared: Stand) -> Iterator[socket.socket]:
    """Give a socket that sees every packet that comes to the client far away."""
    with shared.lab.far.namespace.call(socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as raw:
        raw.settimeout(QUIET)
        yield raw


def heard_from(raw: socket.socket, address: str) -> list[bytes]:
    """Give the packets that came from an address, until it has been quiet for a while."""
    packed, place = ipaddress.ip_address(address).packed, slice(8, 24) if ":" in address else slice(12, 16)
    found = []
    try:
        while True:
            packet, (_, _, kind, *_) = raw.recvfrom(2048)
            if kind != socket.PACKET_OUTGOING and packet[place] == packed:
                found.append(packet)
    except TimeoutError:
        return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_dropped_is_not_answered_and_never_reaches_the_process(
    shared: Stand, sniffed: socket.socket, family: int, protocol: client.Protocol
) -> None:
    served = shared.services.plan(f"dropped-{family}-{protocol}".lower())
    address = served.balancer(family)
    shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=OUTSIDE)
    client.poll(shared.lab.outside, address, 80, protocol)
    await_silence(shared, served, ["LoadBalancer"], family, "far")
    assert heard_from(sniffed, address) == []
    counted = ("uproxy_connections_accepted_total", "uproxy_datagrams_total")
    before = shared.uproxy.metrics()
    assert set(counted) <= before.keys()
    for _ in range(20):
        with client.open_socket(shared.lab.far, address, socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.connect_ex((address, 80))
            if protocol == "UDP":
                asking.send(b"who")
    assert heard_from(sniffed, address) == []
    after = shared.uproxy.metrics()
    assert {name: after[name] for name in counted} == {name: before[name] for name in counted}


@pytest.mark.parametrize("keep", ["auto", "never"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ranges_hold_for_the_clients_address_whether_the_endpoint_sees_it_or_not(shared: Stand, family: int, keep: str) -> None:
    served = shared.services.plan(f"kept-{family}-{keep}")
    shared.services.put(
        served, behind(shared), ingress=served.ingress(), ranges=OUTSIDE, annotations={"uproxy.io/keep-client-address": keep}
    )
    for protocol in PROTOCOLS:
        seen = client.poll(shared.lab.outside, served.balancer(family), 80, protocol)
        assert (seen.address == ADDRESSES["outside"][family == 6]) == (keep == "auto")
    await_silence(shared, served, ["LoadBalancer"], family, "far")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flow_of_datagrams_ends_with_its_clients_range_and_goes_on_with_it(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"flow-{family}")
    shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=OUTSIDE)
    client.poll(shared.lab.outside, served.balancer(family), 80, "UDP")
    with client.udp(shared.lab.outside, served.balancer(family), 80) as flow:
        first = client.who(flow)
        shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=ONLY_THE_NODE)
        await_silence(shared, served, ["LoadBalancer"], family, "outside")
        flow.settimeout(QUIET)
        with pytest.raises(TimeoutError):
            client.who(flow)
        shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=(*OUTSIDE, " 192.0.2.0/24 "))
        await_answers(shared, served, ["LoadBalancer"], family, {"outside": {"pod2"}})
        assert client.who(flow) == first, "it is the same flow"


# Everywhere a load-balancer address can be.


@pytest.mark.parametrize("back_end", ["nftables", "routes", "none"])
def test_an_address_of_the_nodes_own_is_restricted_on_every_back_end(stand: Stand, back_end: str) -> None:
    """A load balancer that hands out the nodes' addresses. Only what none cannot deliver is missing there: other addresses."""
    stand.start("--redirect", back_end)
    served = stand.services.plan("web", port=7080)
    ingress = [{"ip": address} for address in NODE]
    for ranges, inside, outside in (
        (OUTSIDE, ["outside"], ["far", "node"]),
        (ONLY_THE_NODE, ["node"], ["outside"]),
        ((), ["node", "outside", "far", "pod"], []),
    ):
        stand.services.put(served, behind(stand), ingress=ingress, ranges=ranges)
        for family, protocol in itertools.product(FAMILIES, PROTOCOLS):
            for who in inside:
                assert client.poll(stand.lab[who], NODE[family == 6], 7080, protocol).name == "pod2"
        own = served._replace(balancer_ips=NODE)
        for family in FAMILIES:
            await_silence(stand, own, ["LoadBalancer"], family, *outside)


def test_a_routed_address_is_restricted_without_a_packet_filter(stand: Stand) -> None:
    """The node's own connections have the address itself as their source there."""
    stand.start("--redirect", "routes")
    served = stand.services.plan("web")
    stand.services.put(served, behind(stand), ingress=served.ingress(), ranges=OUTSIDE)
    for family in FAMILIES:
        await_answers(stand, served, ["LoadBalancer"], family, {"outside": {"pod2"}})
        await_silence(stand, served, ["LoadBalancer"], family, "far", "node")
    stand.services.put(served, behind(stand), ingress=served.ingress(), ranges=ONLY_THE_NODE)
    for family in FAMILIES:
        await_answers(stand, served, ["LoadBalancer"], family, {"node": {"pod2"}})
        await_silence(stand, served, ["LoadBalancer"], family, "outside", "far")
    assert stand.lab.node.namespace.run("nft", "list", "ruleset") == ""
