"""Real packets to captured addresses, with plain sockets in place of uproxy's data path."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import client
from tests.lab.topology import Host, Lab
from tests.redirect.captures import DNS, DNS6, USUAL, VIP, VIP6, WEB, WEB6, applied
from uproxy.core.model import Protocol, RouteKey
from uproxy.redirect.base import Capture
from uproxy.redirect.cleanup import clean_all

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

IP_TRANSPARENT, IPV6_TRANSPARENT, IP_MTU_DISCOVER = 19, 75, 10
SENT_MARK = 0x0800
TCP_REPAIR = 19
WEBS, NAMES = {4: WEB, 6: WEB6}, {4: DNS, 6: DNS6}
CLIENTS = ("pod", "bridged", "neighbour", "outside", "node")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(autouse=True)
def _captured(lab: Lab) -> None:
    capture(lab, USUAL)


def capture(lab: Lab, wanted: Capture) -> None:
    """Have the node capture what is wanted."""
    lab.node.namespace.call(asyncio.run, applied(wanted))


def listener(lab: Lab, key: RouteKey, port: int) -> socket.socket:
    """Make what uproxy's data path makes: a transparent, marked socket on the VIP and the local port."""
    is_tcp = key.protocol is Protocol.TCP
    kind = socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM
    made = lab.node.namespace.call(socket.socket, socket.AF_INET6 if ":" in key.vip else socket.AF_INET, kind)
    made.settimeout(3)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SENT_MARK)
    if ":" in key.vip:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 0)
    if is_tcp:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((key.vip, port))
    if is_tcp:
        made.listen()
    return made


class Connection(NamedTuple):
    """A TCP connection from both sides."""

    client: socket.socket
    server: socket.socket
    seen: str

    def carries(self) -> bool:
        """Send both ways and say whether all came."""
        self.client.sendall(b"request")
        self.server.settimeout(3)
        request = self.server.recv(64)
        self.server.sendall(b"x" * 5000)
        answer = b""
        while len(answer) < 5000:
            answer += self.client.recv(8192)
        return request == b"request"


@contextmanager
def connected(host: Host, listening: socket.socket, key: RouteKey) -> Iterator[Connection]:
    """Connect through the capture."""
    with client.tcp(host, key.vip, key.port) as outer:
        server, address = listening.accept()
        with server:
            yield Connection(outer, server, address[0])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_connection_to_a_vip_reaches_its_listener_with_the_clients_address(lab: Lab, name: str, family: int) -> None:
    host = lab[name]
    with listener(lab, WEBS[family], 20080) as listening, connected(host, listening, WEBS[family]) as connection:
        assert connection.carries()
        assert connection.seen in host.every_address()
        assert connection.client.getpeername()[:2] == (WEBS[family].vip, 80)


@pytest.mark.parametrize("size", [0, 1, 1472, 9000, 65000])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_datagram_reaches_its_listener_whole_and_so_does_the_answer(lab: Lab, name: str, family: int, size: int) -> None:
    key, payload = NAMES[family], b"d" * size
    with listener(lab, key, 20053) as listening, client.udp(lab[name], key.vip, key.port) as outer:
        outer.send(payload)
        request, address = listening.recvfrom(65535)
        assert request == payload
        assert address[0] in lab[name].every_address()
        listening.sendto(payload, address)
        assert outer.recv(65535) == payload


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_port_of_a_vip_that_no_service_has_is_refused_even_if_a_process_of_the_node_serves_it(lab: Lab, name: str, family: int) -> None:
    vip = WEBS[family].vip
    with lab.node.namespace.call(socket.create_server, ("::", 81), family=socket.AF_INET6, dualstack_ipv6=True):
        with client.measured() as taken:
            assert client.is_refused(lab[name], vip, 81)
        assert taken[0] < 0.5


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_listeners_local_port_is_refused_like_any_port_that_no_service_has(lab: Lab, name: str, family: int) -> None:
    key = WEBS[family]
    with listener(lab, key, 20080), client.measured() as taken:
        assert client.is_refused(lab[name], key.vip, 20080)
    assert taken[0] < 0.5


@pytest.mark.parametrize("family", [4, 6])
def test_a_connection_that_its_listener_knows_nothing_of_is_reset(lab: Lab, family: int) -> None:
    key = WEBS[family]
    with listener(lab, key, 20080) as listening, connected(lab.outside, listening, key) as connection:
        # As after a crash: no FIN, no reset, the socket is just gone (TCP_REPAIR lets it go silently).
        connection.server.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        connection.server.close()
        connection.client.sendall(b"request")
        with pytest.raises(ConnectionResetError):
            connection.client.recv(1)


@pytest.mark.parametrize("family", [4, 6])
def test_a_datagram_to_a_port_without_service_is_refused(lab: Lab, family: int) -> None:
    assert client.is_refused(lab["pod2"], WEBS[family].vip, 5353, "UDP")
    assert client.is_refused(lab.node, WEBS[family].vip, 5353, "UDP")


@pytest.mark.parametrize("family", [4, 6])
def test_a_process_of_the_node_on_the_service_port_is_no_obstacle(lab: Lab, family: int) -> None:
    with (
        lab.node.namespace.call(socket.create_server, ("::", 80), family=socket.AF_INET6, dualstack_ipv6=True) as wildcard,
        listener(lab, WEBS[family], 20080) as listening,
        connected(lab.pod, listening, WEBS[family]) as connection,
    ):
        assert connection.carries()
        with client.tcp(lab.pod, lab.node.address(family), 80), wildcard.accept()[0]:
            pass


@pytest.mark.parametrize("family", [4, 6])
def test_a_refusing_port_refuses_new_connections_while_open_ones_go_on_both_ways(lab: Lab, family: int) -> None:
    key = WEBS[family]
    with ExitStack() as stack:
        listening = stack.enter_context(listener(lab, key, 20080))
        opened = {name: stack.enter_context(connected(lab[name], listening, key)) for name in CLIENTS}
        listening.close()
        capture(lab, Capture(USUAL.vips, USUAL.ports, frozenset({key})))
        for name, connection in opened.items():
            assert connection.carries(), name
            with client.measured() as taken:
                assert client.is_refused(lab[name], key.vip, key.port), name
            assert taken[0] < 0.5
        for name, connection in opened.items():
            connection.client.shutdown(socket.SHUT_WR)
            assert connection.server.recv(64) == b"", name
            connection.server.sendall(b"last words")
            connection.server.close()
            assert client.read_all(connection.client) == b"last words", name


@pytest.mark.parametrize("family", [4, 6])
def test_a_port_that_refused_serves_again_when_its_listener_is_back(lab: Lab, family: int) -> None:
    key = WEBS[family]
    with listener(lab, key, 20080) as listening, connected(lab.pod, listening, key) as old:
        listening.close()
        capture(lab, Capture(USUAL.vips, USUAL.ports, frozenset({key})))
        assert client.is_refused(lab.pod, key.vip, key.port)
        with listener(lab, key, 20080) as again:
            capture(lab, USUAL)
            with connected(lab.pod, again, key) as new:
                assert new.carries()
                assert old.carries()


def test_other_ports_of_a_vip_are_not_touched_by_one_that_refuses(lab: Lab) -> None:
    other = RouteKey(VIP, Protocol.TCP, 443)
    capture(lab, Capture(USUAL.vips, {**USUAL.ports, other: 20443}, frozenset({WEB})))
    with listener(lab, other, 20443) as listening, connected(lab.outside, listening, other) as connection:
        assert connection.carries()


def test_while_no_listener_is_there_a_connection_waits_instead_of_being_refused(lab: Lab) -> None:
    with lab.pod.namespace.call(socket.socket, socket.AF_INET, socket.SOCK_STREAM) as waiting:
        waiting.setblocking(False)
        waiting.connect_ex((VIP, 80))
        with listener(lab, WEB, 20080) as listening:
            accepted, _ = listening.accept()
            accepted.close()


def test_without_a_default_route_the_node_itself_reaches_vips(lab: Lab) -> None:
    with lab.without_default_route(lab.node):
        for key in (WEB, WEB6):
            with listener(lab, key, 20080) as listening, connected(lab.node, listening, key) as connection:
                assert connection.carries()


def test_after_cleaning_a_vip_is_nothing_special(lab: Lab) -> None:
    cleaned = lab.node.namespace.call(clean_all)
    assert cleaned.removed
    assert not cleaned.failed
    with pytest.raises(OSError, match=r"unreachable|timed out|No route"):
        client.tcp(lab.node2, VIP6, 80).close()
