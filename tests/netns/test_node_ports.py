"""Node ports: on which of the node's addresses they are, as those come and go, and who else wants their numbers.

Addresses are followed by the kernel's notifications: the resync, which would find them too, is ten minutes away.
"""

from __future__ import annotations

import itertools
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
from msgspec.structs import replace

from tests.lab import client
from tests.lab.manifests import endpoint_slice, service, targets
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES, PROTOCOLS
from tests.lab.wiring import ADDRESSES, GATEWAY4, router_of
from uproxy import node_view
from uproxy.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.manifests import Document, Served
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

FOLLOWED_SECONDS = 2.0
"""Half a second is sync.debounceLimit, the rest is for a busy machine."""
SELDOM = "sync: {resync: 10m}"
NODE = ADDRESSES["node"]
MORE = ("10.0.1.50", "fd10:0:1::50")
"""Further addresses in the networks of the node's own."""
NETWORKS = ("10.0.1.0/24", "fd10:0:1::/64")
LOOPBACK = ("127.0.0.1", "::1")
GATEWAYS = tuple(map(router_of, ADDRESSES["neighbour"]))
"""What the node has on the bridge of its neighbouring pods."""


def listening(stand: Stand, port: int) -> set[tuple[str, str]]:
    """Give what ss says of a port of the node: protocols and addresses."""
    lines = stand.lab.node.namespace.run("ss", "-Hlntu", f"sport = :{port}").splitlines()
    fields = [line.split() for line in lines]
    return {(each[0].upper(), each[4].rpartition(":")[0].strip("[]").partition("%")[0]) for each in fields}


def await_listening(stand: Stand, port: int, addresses: Sequence[str], within: float = FOLLOWED_SECONDS) -> None:
    """Wait until the node port is open on these addresses and no others, over each protocol."""
    expected = set(itertools.product(PROTOCOLS, addresses))

    def as_expected() -> None:
        found = listening(stand, port)
        assert found == expected, f"too many: {found - expected}; missing: {expected - found}"

    eventually(as_expected, within=within)


def start(stand: Stand, *addresses: str) -> Served:
    """Start uproxy with these nodePortAddresses and serve pod2."""
    stand.start_with(*settings(*addresses))
    return stand.serve("web", stand.lab.pod2)


def settings(*addresses: str) -> tuple[str, str]:
    return f"nodePortAddresses: [{', '.join(map(repr, addresses))}]", SELDOM


def choose(stand: Stand, *addresses: str) -> None:
    """Have the operator choose other addresses."""
    stand.set(*settings(*addresses))


def change(stand: Stand, what: str, address: str) -> None:
    """Give an address to the node, or take it away."""
    prefix = "/64 dev eth0 nodad" if ":" in address else "/24 dev eth0"
    stand.lab.node.namespace.ip(f"addr {what} {address}{prefix if what == 'add' else prefix.removesuffix(' nodad')}")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_that_comes_is_served_at_once_and_one_that_goes_is_released(stand: Stand, family: int) -> None:
    served = start(stand, *NETWORKS)
    extra, own = MORE[family == 6], NODE[family == 6]
    await_listening(stand, served.node_port, NODE)
    with client.tcp(stand.lab.outside, own, served.node_port) as conversation:
        for _ in range(2):
            change(stand, "add", extra)
            for protocol in PROTOCOLS:
                assert client.poll(stand.lab.outside, extra, served.node_port, protocol, within=FOLLOWED_SECONDS).name == "pod2"
            await_listening(stand, served.node_port, (*NODE, extra))
            change(stand, "del", extra)
            await_listening(stand, served.node_port, NODE)
        assert client.who(conversation).name == "pod2", "the other address was left alone"


def test_an_address_that_is_still_checked_for_duplicates_is_served_once_it_may_be_used(stand: Stand) -> None:
    """It can be bound only then (RFC 4862, 5.4), and the kernel says when."""
    served = start(stand, *NETWORKS)
    stand.lab.node.namespace.sysctl({"net.ipv6.conf.all.accept_dad": 1, "net.ipv6.conf.eth0.accept_dad": 1})
    stand.lab.node.namespace.ip(f"addr add {MORE[1]}/64 dev eth0")
    assert "tentative" in stand.lab.node.namespace.run("ip", "addr", "show", "to", MORE[1])
    await_listening(stand, served.node_port, (*NODE, MORE[1]), within=10)
    assert "listen_failed" not in stand.uproxy.log()


CHOICES: dict[tuple[str, ...], tuple[str, ...]] = {
    (): NODE,
    ("primary",): NODE,
    ("localhost",): LOOPBACK,
    ("primary", "localhost"): (*NODE, *LOOPBACK),
    ("all",): (*NODE, *GATEWAYS),
    ("all", "primary", "localhost"): (*NODE, *GATEWAYS, *LOOPBACK),
    ("127.0.0.0/8", "10.0.1.1/32", "fd10::/16"): (LOOPBACK[0], NODE[0], NODE[1], GATEWAYS[1]),
    ("0.0.0.0/0", "2001:db8::/32"): (NODE[0], GATEWAYS[0], LOOPBACK[0], GATEWAY4),
    ("192.0.2.0/24", "2001:db8::/32"): (),
    ("10.0.1.0/24",): NODE,
    ("::1/128",): (NODE[0], LOOPBACK[1]),
}
"""A family that nothing is said of has its primary address."""


@pytest.mark.parametrize(("chosen", "expected"), CHOICES.items(), ids=map(" ".join, CHOICES))
def test_words_and_cidrs_stand_for_addresses_of_the_node(shared: Stand, chosen: tuple[str, ...], expected: tuple[str, ...]) -> None:
    config = replace(Config(), node_port_addresses=chosen)
    found = shared.lab.node.namespace.call(node_view.read, config, None).node_port_addresses
    assert sorted(found) == sorted(expected)


def test_another_choice_is_followed_without_touching_what_stays(stand: Stand) -> None:
    served = start(stand)
    await_listening(stand, served.node_port, NODE)
    with client.tcp(stand.lab.outside, NODE[0], served.node_port) as conversation:
        for chosen, expected in ((["localhost"], LOOPBACK), (["10.0.1.1/32", "localhost"], (NODE[0], *LOOPBACK)), (["primary"], NODE)):
            choose(stand, *chosen)
            await_listening(stand, served.node_port, expected, within=5)
        assert client.who(conversation).name == "pod2", "an open connection goes on"


def test_all_takes_in_what_comes_later_and_leaves_out_what_is_of_one_link_only(stand: Stand) -> None:
    served = start(stand, "all")
    await_listening(stand, served.node_port, (*NODE, *GATEWAYS))
    assert client.ask(stand.lab.neighbour, GATEWAYS[0], served.node_port).name == "pod2"
    for address in MORE:
        change(stand, "add", address)
    stand.lab.node.namespace.ip("addr add 169.254.7.7/32 dev eth0", "addr add fe80::7/64 dev eth0 nodad")
    await_listening(stand, served.node_port, (*NODE, *GATEWAYS, *MORE))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_node_reaches_its_pods_at_its_loopback_address_and_nobody_else_does(stand: Stand, family: int) -> None:
    served = start(stand, "localhost")
    for protocol in PROTOCOLS:
        seen = client.ask(stand.lab.node, LOOPBACK[family == 6], served.node_port, protocol)
        assert seen.name == "pod2"
        assert seen.address in stand.lab.node.every_address() - set(LOOPBACK)
        client.poll_refusal(stand.lab.outside, NODE[family == 6], served.node_port, protocol)


def test_the_primary_address_is_the_one_that_the_node_object_states_and_the_node_has(stand: Stand) -> None:
    for address in MORE:
        change(stand, "add", address)
    served = start(stand)
    await_listening(stand, served.node_port, NODE)
    stand.services.write_node(stand.lab.node, addresses=(*MORE, *NODE))
    await_listening(stand, served.node_port, MORE)
    assert client.ask(stand.lab.outside, MORE[0], served.node_port).name == "pod2"
    for address in MORE:
        change(stand, "del", address)
    await_listening(stand, served.node_port, NODE)
    for address in MORE:
        change(stand, "add", address)
    await_listening(stand, served.node_port, MORE)


def of_protocol(served: Served, protocol: client.Protocol) -> Document:
    """Make the Service with the port of one protocol alone."""
    whole = service(served)
    spec = cast("dict[str, object]", whole["spec"])
    ports = cast("list[Document]", spec["ports"])
    return {**whole, "spec": {**spec, "ports": [port for port in ports if port["name"] == protocol.lower()]}}


@pytest.mark.parametrize("family", FAMILIES)
def test_one_number_may_be_the_tcp_port_of_one_service_and_the_udp_port_of_another(shared: Stand, family: int) -> None:
    streams = shared.services.plan(f"streams-{family}")
    datagrams = shared.services.plan(f"datagrams-{family}")._replace(node_port=streams.node_port)
    behind: dict[client.Protocol, tuple[Served, str]] = {"TCP": (streams, "pod2"), "UDP": (datagrams, "bridged")}
    for protocol, (served, name) in behind.items():
        slices = [endpoint_slice(served.name, each, targets([shared.lab[name]])) for each in FAMILIES]
        shared.services.write(served.name, of_protocol(served, protocol), *slices)
    for protocol, (_, name) in behind.items():
        assert client.poll(shared.lab.outside, NODE[family == 6], streams.node_port, protocol).name == name
    shared.services.remove(streams)
    client.poll_refusal(shared.lab.outside, NODE[family == 6], streams.node_port)
    assert client.ask(shared.lab.outside, NODE[family == 6], streams.node_port, "UDP").name == "bridged"


def test_a_number_is_free_for_the_host_as_soon_as_its_service_is_gone(shared: Stand) -> None:
    served = shared.serve("leaving", shared.lab.pod2)
    with client.tcp(shared.lab.outside, NODE[0], served.node_port) as conversation:
        assert client.who(conversation).name == "pod2"
        shared.services.remove(served)
        await_listening(shared, served.node_port, ())
        with daemon(shared, "::", served.node_port, "TCP"), daemon(shared, "::", served.node_port, "UDP"):
            assert client.who(conversation).name == "pod2", "an open connection goes on"


def test_a_number_passes_to_another_service_in_one_change(shared: Stand) -> None:
    first = shared.serve("handing", shared.lab.pod2)
    second = shared.services.plan("handed")
    to = {"handing": [shared.lab.pod2], "handed": [shared.lab.bridged]}
    for _ in range(2):
        first, second = first._replace(node_port=second.node_port), second._replace(node_port=first.node_port)
        documents = [service(each) for each in (first, second)]
        slices = [endpoint_slice(name, family, targets(hosts)) for name, hosts in to.items() for family in FAMILIES]
        shared.services.write(first.name, *documents, *slices)
        for served, name in ((first, "pod2"), (second, "bridged")):
            for family, protocol in itertools.product(FAMILIES, PROTOCOLS):
                eventually(partial(is_answered_by, shared, NODE[family == 6], served.node_port, protocol, name))
    assert "listen_failed" not in shared.uproxy.log()


def is_answered_by(stand: Stand, address: str, port: int, protocol: client.Protocol, name: str) -> bool:
    return client.ask(stand.lab.outside, address, port, protocol, client.POLLING).name == name


@contextmanager
def daemon(stand: Stand, address: str, port: int, protocol: client.Protocol) -> Iterator[None]:
    """Hold a port of the node as a daemon of the host would; raises OSError if it is not free."""
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with client.open_socket(stand.lab.node, address, kind) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind is socket.SOCK_STREAM)
        held.bind((address, port))
        if kind is socket.SOCK_STREAM:
            held.listen()
        yield


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_daemon_on_one_address_costs_that_address_alone_and_is_named_until_it_ends(stand: Stand, protocol: client.Protocol) -> None:
    stand.start_with(*settings("primary", "localhost"))
    served = stand.services.plan("web")
    with daemon(stand, NODE[1], served.node_port, protocol):
        stand.services.put(served, targets([stand.lab.pod2]))
        said = stand.uproxy.wait_for_log("listen_failed", f"[{NODE[1]}]:{served.node_port}/{protocol}")
        assert "another process" in said
        expected = set(itertools.product(PROTOCOLS, (*NODE, *LOOPBACK)))
        eventually(lambda: listening(stand, served.node_port) == expected)  # the daemon's is among them
        assert client.ask(stand.lab.outside, NODE[0], served.node_port, protocol).name == "pod2"
        assert client.ask(stand.lab.node, "::1", served.node_port, protocol).name == "pod2"
        eventually(lambda: stand.uproxy.metrics()["uproxy_failed_listeners"] == 1)
    assert client.poll(stand.lab.outside, NODE[1], served.node_port, protocol, within=10).name == "pod2"
    stand.uproxy.wait_for_log("listening_again", f"[{NODE[1]}]:{served.node_port}/{protocol}")
    eventually(lambda: stand.uproxy.metrics()["uproxy_failed_listeners"] == 0)
