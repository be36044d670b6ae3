"""Flows that carry the client's address: the register of their source ports, and real sockets bound to them."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataplane.datagrams import UdpServer, ask, balancer_of, client, needs_ipv6, serve, tagged
from uproxy.config import Config, UdpSettings
from uproxy.core.model import Endpoint
from uproxy.dataplane.udp_source_ports import SourcePorts

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

CLIENTS = ("10.0.0.1", "10.0.0.2")
ENDPOINTS = (Endpoint("10.1.0.1", 53), Endpoint("10.1.0.2", 53))
PAIRS = [(one, endpoint) for one in CLIENTS for endpoint in ENDPOINTS]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: IP_TRANSPARENT")


class Everything:
    """The answer that every client's address may be kept."""

    def keeps(self, client: str, endpoint: Endpoint) -> bool:  # noqa: ARG002 - the Protocol's parameters
        """Tell that it may."""
        return True


@given(st.lists(st.tuples(st.sampled_from(PAIRS), st.booleans(), st.integers(0, 7)), max_size=60))
def test_no_port_of_a_pair_is_given_twice_and_none_is_refused_while_one_is_free(
    history: list[tuple[tuple[str, Endpoint], bool, int]],
) -> None:
    ports = SourcePorts(61000, 61003)
    held: dict[tuple[str, Endpoint], list[int]] = {pair: [] for pair in PAIRS}
    for pair, taking, which in history:
        mine = held[pair]
        if taking:
            port = ports.take(*pair)
            assert (port is None) == (len(mine) == 4)
            if port is not None:
                assert 61000 <= port <= 61003
                assert port not in mine
                mine.append(port)
        elif mine:
            ports.release(*pair, mine.pop(which % len(mine)))
        assert len(ports) == sum(map(len, held.values()))


def test_a_port_that_was_given_back_rests_for_as_long_as_others_are_free() -> None:
    ports = SourcePorts(61000, 61009)
    pair = PAIRS[0]
    first = ports.take(*pair)
    kept = ports.take(*pair)
    assert first is not None
    assert kept is not None
    ports.release(*pair, first)
    following = []
    for _ in range(9):
        port = ports.take(*pair)
        assert port is not None
        following.append(port)
    assert following.index(first) == 8


def test_a_client_that_comes_back_does_not_begin_with_the_port_it_just_had() -> None:
    ports = SourcePorts(61000, 61009)
    taken = []
    for _ in range(5):
        port = ports.take(*PAIRS[0])
        assert port is not None
        taken.append(port)
        ports.release(*PAIRS[0], port)
    assert len(set(taken)) == 5


@needs_root
def test_the_endpoint_sees_the_clients_address_and_a_port_of_the_range(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(client_addresses=Everything())
    with ExitStack() as stack:
        servers = [stack.enter_context(UdpServer(tagged(name))) for name in (b"a", b"b")]
        key = serve(plane, balancer_of(plane, *(server.endpoint for server in servers)), keep=True)
        socks = [stack.enter_context(client(key, "127.0.9.1")) for _ in range(20)]
        for number, sock in enumerate(socks):
            assert ask(sock, str(number).encode()).endswith(b" " + str(number).encode())
        for server in servers:
            assert len(set(server.sources)) == 10
            assert all(address == "127.0.9.1" and 61000 <= port <= 65535 for address, port in server.sources)
        assert plane.counters.kept_addresses == 20
        plane.call(plane.plane.stop_listening)
        assert len(plane.plane._context.udp_source_ports) == 0


@needs_root
def test_two_flows_share_a_source_port_only_towards_different_endpoints(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(udp=UdpSettings(source_ports=(61000, 61001))), client_addresses=Everything())
    with ExitStack() as stack:
        servers = [stack.enter_context(UdpServer(tagged(name))) for name in (b"a", b"b")]
        key = serve(plane, balancer_of(plane, *(server.endpoint for server in servers)), keep=True)
        socks = [stack.enter_context(client(key, "127.0.9.2")) for _ in range(4)]
        assert sorted(ask(sock, b"")[:1] for sock in socks) == [b"a", b"a", b"b", b"b"]
        assert [sorted(port for _, port in server.sources) for server in servers] == [[61000, 61001]] * 2
        assert [ask(sock, b"again")[2:] for sock in socks] == [b"again"] * 4


@needs_root
def test_without_a_free_source_port_the_nodes_own_address_is_used_and_counted(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(udp=UdpSettings(source_ports=(61000, 61001))), client_addresses=Everything())
    with ExitStack() as stack:
        server = stack.enter_context(UdpServer())
        key = serve(plane, balancer_of(plane, server.endpoint), keep=True)
        for _ in range(5):
            assert ask(stack.enter_context(client(key, "127.0.9.3")), b"data") == b"data"
        assert [address for address, _ in server.sources] == ["127.0.9.3"] * 2 + ["127.0.0.1"] * 3
        assert plane.counters.kept_address_fallbacks == {"ports": 3}


@needs_root
def test_a_source_port_that_a_process_holds_on_every_address_is_passed_by(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(udp=UdpSettings(source_ports=(61000, 61001))), client_addresses=Everything())
    with UdpServer() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 61000))
        key = serve(plane, balancer_of(plane, server.endpoint), keep=True)
        with client(key, "127.0.9.4") as sock:
            assert ask(sock, b"data") == b"data"
        assert server.sources == [("127.0.9.4", 61001)]


@needs_ipv6
def test_a_client_of_the_other_family_comes_from_the_nodes_own_address(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(client_addresses=Everything())
    with UdpServer() as server, client(serve(plane, balancer_of(plane, server.endpoint), vip="::1", keep=True)) as sock:
        assert ask(sock, b"data") == b"data"
        assert [address for address, _ in server.sources] == ["127.0.0.1"]


def test_a_listener_told_not_to_keep_addresses_does_not_ask_for_them(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(client_addresses=Everything())
    with UdpServer() as server, client(serve(plane, balancer_of(plane, server.endpoint)), "127.0.9.5") as sock:
        assert ask(sock, b"data") == b"data"
        assert [address for address, _ in server.sources] == ["127.0.0.1"]
        assert plane.counters.kept_addresses == 0
