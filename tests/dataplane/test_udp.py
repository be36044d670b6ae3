"""UDP as its users see it: datagrams there and back, whole, in order, from the address that they were sent to."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.datagrams import (
    DNS,
    LARGEST4,
    LARGEST6,
    UdpServer,
    ask,
    balancer_of,
    client,
    drops,
    held_up,
    needs_ipv6,
    serve,
    silence,
    tagged,
)
from tests.dataplane.running import open_descriptors
from uproxy.errors import ListenError

if TYPE_CHECKING:
    from tests.dataplane.running import RunningPlane


def pattern(size: int) -> bytes:
    """Make a datagram whose every part is recognisable."""
    return bytes(index * 7 % 251 for index in range(size))


@pytest.mark.parametrize("size", [0, 1, 1400, 8000, LARGEST4])
def test_a_datagram_of_any_size_goes_there_and_back_whole(plane: RunningPlane, size: int) -> None:
    with UdpServer() as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        assert ask(sock, pattern(size)) == pattern(size)
        assert server.received == [pattern(size)]


@needs_ipv6
@pytest.mark.parametrize("size", [0, 1400, LARGEST4 + 1, LARGEST6])
def test_ipv6_carries_the_larger_datagrams_of_ipv6(plane: RunningPlane, size: int) -> None:
    with UdpServer(address="::1") as server, client(serve(plane, balancer_of(plane, server.endpoint), vip="::1")) as sock:
        assert ask(sock, pattern(size)) == pattern(size)
        assert server.received == [pattern(size)]


@needs_ipv6
def test_a_listener_on_every_ipv6_address_leaves_ipv4_alone(plane: RunningPlane) -> None:
    with UdpServer(address="::1") as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        key = serve(plane, balancer_of(plane, server.endpoint), vip="::")
        other.bind(("0.0.0.0", key.port))  # it would be taken
        with client(key._replace(vip="::1")) as sock:
            assert ask(sock, b"six") == b"six"


def test_an_empty_datagram_ends_nothing(plane: RunningPlane) -> None:
    with UdpServer() as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        assert [ask(sock, data) for data in (b"", b"", b"after", b"")] == [b"", b"", b"after", b""]
        assert len(set(server.sources)) == 1


def test_a_burst_larger_than_a_batch_arrives_in_order(plane: RunningPlane) -> None:
    """Three batches: the 256 small datagrams that fit a socket's default buffer would be the limit if the loop did not run at all."""
    with UdpServer() as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        sent = [str(number).encode() for number in range(3 * plane.config.udp.batch)]
        for data in sent:
            sock.send(data)
        assert [sock.recv(100) for _ in sent] == sent


def test_a_flow_with_many_answers_waiting_gets_more_than_one_of_them_per_turn(plane: RunningPlane) -> None:
    """150 answers wait when the loop goes on; one per epoll_wait, four of which make a turn, would take 37 turns."""
    with UdpServer(silence) as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        sock.send(b"ask")
        plane.until(lambda: server.sources != [])
        turns = 0

        def count_turns() -> None:
            nonlocal turns
            if plane.plane.totals().datagrams_sent < 150:
                turns += 1
                plane.loop.call_soon(count_turns)

        with held_up(plane):
            for _ in range(150):
                server.sock.sendto(b"answer", server.sources[0])
            plane.loop.call_soon_threadsafe(count_turns)
        assert [sock.recv(100) for _ in range(150)] == [b"answer"] * 150
        plane.until(lambda: plane.plane.totals().datagrams_sent == 150)
        assert turns < 20


def test_an_endpoint_may_answer_several_times(plane: RunningPlane) -> None:
    with UdpServer(lambda data: [data] * 10) as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        sock.send(b"once")
        assert [sock.recv(100) for _ in range(10)] == [b"once"] * 10


def test_a_client_keeps_its_endpoint_and_clients_are_spread_in_turn(plane: RunningPlane) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(UdpServer(tagged(str(number).encode()))) for number in range(3)]
        key = serve(plane, balancer_of(plane, *(server.endpoint for server in servers)))
        answers = []
        for _ in range(30):
            sock = stack.enter_context(client(key))
            first = ask(sock, b"")
            assert [ask(sock, b"") for _ in range(3)] == [first] * 3
            answers.append(first)
        assert Counter(answers) == {b"0 ": 10, b"1 ": 10, b"2 ": 10}


def test_each_of_many_clients_gets_its_own_answers(plane: RunningPlane) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(UdpServer())
        key = serve(plane, balancer_of(plane, server.endpoint))
        socks = [stack.enter_context(client(key, f"127.0.{number % 4}.{1 + number % 50}")) for number in range(400)]
        for number, sock in enumerate(socks):
            sock.send(str(number).encode())
        assert [sock.recv(100) for sock in socks] == [str(number).encode() for number in range(400)]
        assert len(set(server.sources)) == 400


def test_session_affinity_gives_all_flows_of_an_address_one_endpoint(plane: RunningPlane) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(UdpServer(tagged(str(number).encode()))) for number in range(4)]
        key = serve(plane, balancer_of(plane, *(server.endpoint for server in servers), affinity_seconds=60))
        for source in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            assert len({ask(stack.enter_context(client(key, source)), b"") for _ in range(8)}) == 1


def test_everything_is_counted_for_its_service_port(plane: RunningPlane) -> None:
    with UdpServer(lambda data: [data, data]) as server, ExitStack() as stack:
        key = serve(plane, balancer_of(plane, server.endpoint))
        for data in (b"four", b"seven77"):
            sock = stack.enter_context(client(key))
            ask(sock, data)
            sock.recv(100)
        plane.until(lambda: plane.plane.totals().datagrams_sent == 4)
        [(name, traffic)] = plane.call(plane.plane.traffic)
        assert name == DNS
        assert (traffic.flows, traffic.flows_active) == (2, 2)
        assert (traffic.datagrams_received, traffic.received) == (2, 11)
        assert (traffic.datagrams_sent, traffic.sent) == (4, 22)


def test_a_service_without_endpoints_drops_and_counts(plane: RunningPlane) -> None:
    with client(serve(plane, balancer_of(plane))) as sock:
        sock.send(b"anybody?")
        plane.until(lambda: plane.counters.datagrams_dropped == {"no_endpoint": 1})


def test_a_taken_port_is_refused_by_name_with_a_remedy_and_nothing_stays_open(plane: RunningPlane) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        before = open_descriptors()
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}.*another process has this port"):
            serve(plane, balancer_of(plane), port=port)
        assert open_descriptors() == before
        assert list(plane.call(plane.plane.traffic)) == []


def test_the_socket_of_a_listener_never_sets_dont_fragment(plane: RunningPlane) -> None:
    """Reads the option back: an ICMP error about a rewritten port could not be matched to the socket (ip(7), IP_MTU_DISCOVER)."""
    key = serve(plane, balancer_of(plane))
    listener = plane.plane._open[key]
    assert plane.call(lambda: listener._sock.getsockopt(socket.IPPROTO_IP, 10)) == 0  # type: ignore[attr-defined] # its class is not the Protocol's


@needs_ipv6
def test_a_datagram_too_large_for_the_endpoints_family_is_dropped_and_the_flow_survives(plane: RunningPlane) -> None:
    with UdpServer() as server, client(serve(plane, balancer_of(plane, server.endpoint), vip="::1")) as sock:
        assert ask(sock, b"before") == b"before"
        sock.send(pattern(LARGEST6))
        assert ask(sock, b"after") == b"after"
        assert drops(plane) == {"EMSGSIZE": 1}
        assert len(set(server.sources)) == 1
