"""What a TCP client and an endpoint see of the proxy when nothing goes wrong."""

from __future__ import annotations

import gc
import random
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.running import Server, connect, echo, open_descriptors, read_all, read_exactly, refusing_endpoint, reset
from tests.lab.ports import free_port
from tests.lab.waiting import eventually
from uproxy.config import Config, TcpSettings
from uproxy.config_rules import Duration
from uproxy.core.model import Endpoint, Protocol, RouteKey
from uproxy.dataplane.connection import _ENDED, Connection
from uproxy.dataplane.context import Binding
from uproxy.dataplane.dialing import Dial
from uproxy.dataplane.tcp_sockets import listener_options
from uproxy.errors import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

KIBIBYTE = 1024
MEBIBYTE = 1 << 20


def test_bytes_go_both_ways_and_are_counted(plane: RunningPlane) -> None:
    with Server(echo) as server:
        key = plane.serve(server.endpoint)
        with connect(key) as client:
            client.sendall(b"hello")
            assert read_exactly(client, 5) == b"hello"
            assert plane.plane.connections(key) == 1
            ((_, traffic),) = plane.call(plane.plane.traffic)
            assert (traffic.received, traffic.sent, traffic.accepted, traffic.active) == (5, 5, 1, 1)
        plane.until(lambda: plane.plane.open_connections == 0)
        assert traffic.active == 0


def test_connections_go_to_the_endpoints_in_turn(plane: RunningPlane) -> None:
    with Server(lambda sock: sock.sendall(b"a")) as a, Server(lambda sock: sock.sendall(b"b")) as b:
        key = plane.serve(a.endpoint, b.endpoint)
        answers = []
        for _ in range(6):
            with connect(key) as client:
                answers.append(client.recv(1))
        assert sorted(answers) == [b"a"] * 3 + [b"b"] * 3
        assert answers[:2] == answers[2:4] == answers[4:]


def test_an_ipv6_client_reaches_an_ipv6_endpoint(plane: RunningPlane) -> None:
    with Server(echo, address="::1") as server, connect(plane.serve(server.endpoint, vip="::1")) as client:
        client.sendall(b"six")
        assert read_exactly(client, 3) == b"six"


def test_a_listener_of_one_family_reaches_an_endpoint_of_the_other(plane: RunningPlane) -> None:
    with Server(echo) as server, connect(plane.serve(server.endpoint, vip="::1", keep_client_address=True)) as client:
        client.sendall(b"mixed")
        assert read_exactly(client, 5) == b"mixed"


def test_what_the_client_sends_before_the_upstream_stands_arrives(plane: RunningPlane) -> None:
    with Server(echo) as server:
        key = plane.serve(refusing_endpoint(), refusing_endpoint(), server.endpoint)
        for _ in range(3):
            with connect(key) as client:
                client.sendall(b"early")
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"early"


def test_a_server_that_speaks_first_is_not_kept_waiting(plane: RunningPlane) -> None:
    """Without the handshake's ACK it would wait for 200 ms (the kernel's longest delayed ACK, TCP_DELACK_MAX)."""
    with Server(lambda sock: sock.sendall(b"220 ready\r\n")) as server:
        key = plane.serve(server.endpoint)
        slowest = 0.0
        for _ in range(10):
            began = time.monotonic()
            with connect(key) as client:
                assert read_all(client) == b"220 ready\r\n"
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.1


@pytest.mark.parametrize("splice_after", [0, 1, 2])
def test_every_byte_arrives_in_order_whatever_the_chunks(start_plane: Callable[..., RunningPlane], splice_after: int) -> None:
    plane = start_plane(Config(tcp=TcpSettings(splice_after=splice_after)))
    data = random.Random(3).randbytes(24 * MEBIBYTE)

    def send_in_chunks(sock: socket.socket, seed: int) -> None:
        rng = random.Random(seed)
        sent = 0
        while sent < len(data):
            size = rng.choice((1, 100, 1460, 65535, 65536, 65537, MEBIBYTE, 3 * MEBIBYTE))
            sock.sendall(data[sent : sent + size])
            sent += size
        sock.shutdown(socket.SHUT_WR)

    received: list[bytes] = []

    def exchange(sock: socket.socket) -> None:
        sender = threading.Thread(target=send_in_chunks, args=(sock, 1))
        sender.start()
        received.append(read_all(sock))
        sender.join()

    with Server(exchange) as server, connect(plane.serve(server.endpoint)) as client:
        sender = threading.Thread(target=send_in_chunks, args=(client, 2))
        sender.start()
        assert read_all(client) == data
        sender.join()
    assert received == [data]
    assert (plane.counters.spliced_bytes > 0) == (splice_after > 0)
    assert plane.call(plane.plane.totals).received == plane.call(plane.plane.totals).sent == len(data)


def test_splicing_goes_on_with_recv_where_no_pipe_is_left(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(pipes=0)))
    data = random.Random(4).randbytes(8 * MEBIBYTE)
    with Server(lambda sock: sock.sendall(data)) as server, connect(plane.serve(server.endpoint)) as client:
        assert read_all(client) == data
    assert plane.counters.spliced_bytes == 0


def test_a_connection_holds_two_descriptors_also_while_it_is_spliced_and_idle(plane: RunningPlane) -> None:
    with Server(echo) as server:
        key = plane.serve(server.endpoint)
        before = plane.descriptors.taken
        with connect(key) as client:
            for _ in range(4):
                client.sendall(bytes(MEBIBYTE // 2))
                read_exactly(client, MEBIBYTE // 2)
            pipes = 2 * len(plane.plane._tcp.pipes)
            assert plane.descriptors.taken == before + 2 + pipes
            assert pipes <= 4


def test_bytes_after_an_urgent_one_are_not_lost(plane: RunningPlane) -> None:
    """recv(2) stops at the mark: a short read must not be taken for the end. The urgent byte itself is not passed on."""
    received: list[bytes] = []
    with Server(lambda sock: received.append(read_all(sock))) as server:
        key = plane.serve(server.endpoint)
        for _ in range(20):
            with connect(key) as client:
                client.sendall(b"a" * 1000)
                client.send(b"bbb!", socket.MSG_OOB)
                client.sendall(b"c" * 1997)
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b""
    assert set(received) == {b"a" * 1000 + b"bbb" + b"c" * 1997}


def test_bulk_with_urgent_bytes_in_it_arrives_whole(plane: RunningPlane) -> None:
    """An urgent byte that is overtaken by the next one becomes an ordinary one (tcp(7)): how many do depends on the moment."""
    received: list[bytes] = []
    data = random.Random(5).randbytes(MEBIBYTE).replace(b"!", b"?")
    with Server(lambda sock: received.append(read_all(sock))) as server, connect(plane.serve(server.endpoint)) as client:
        for _ in range(8):
            client.sendall(data)
            client.send(b"!", socket.MSG_OOB)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    assert [stream.replace(b"!", b"") for stream in received] == [data * 8]


def test_a_bulk_flow_does_not_starve_another_client(plane: RunningPlane) -> None:
    stop = threading.Event()

    def pour(sock: socket.socket) -> None:
        while not stop.is_set():
            sock.sendall(bytes(MEBIBYTE))

    def drain(client: socket.socket) -> None:
        while client.recv(MEBIBYTE):
            pass

    with Server(pour) as source, Server(echo) as server:
        bulk, small = plane.serve(source.endpoint, name="bulk"), plane.serve(server.endpoint, name="small")
        with connect(bulk) as bulk_client, connect(small) as client:
            drainer = threading.Thread(target=drain, args=(bulk_client,))
            drainer.start()
            eventually(lambda: plane.call(plane.plane.totals).sent > MEBIBYTE)
            times = []
            for _ in range(200):
                began = time.monotonic()
                client.sendall(b"ping")
                assert client.recv(4) == b"ping"
                times.append(time.monotonic() - began)
            stop.set()
            drainer.join()
    assert sorted(times)[100] < 0.05


def test_who_waits_to_be_accepted_when_a_listener_closes_is_served(plane: RunningPlane) -> None:
    with Server(echo) as server:
        key = plane.serve(server.endpoint)

        def connect_and_close() -> list[socket.socket]:
            """On the loop's own thread, so that nobody can accept in between."""
            clients = [connect(key) for _ in range(100)]
            assert plane.plane.close(key) == len(clients)
            assert plane.plane.open_connections == len(clients)
            return clients

        for client in plane.call(connect_and_close):
            with client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        with pytest.raises(ConnectionRefusedError):
            connect(key)


def test_a_closed_listener_refuses_and_its_connections_go_on(plane: RunningPlane) -> None:
    with Server(echo) as server:
        key = plane.serve(server.endpoint)
        with connect(key) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert plane.call(lambda: plane.plane.close(key)) == 1
            with pytest.raises(ConnectionRefusedError):
                connect(key)
            client.sendall(b"still here")
            assert read_exactly(client, 10) == b"still here"
            assert plane.drained == []
        plane.until(lambda: plane.drained == [key])
        assert plane.call(lambda: plane.plane.connections(key)) == 0
        assert plane.call(plane.plane.totals).received == 11


def test_a_listener_without_connections_closes_without_a_drain(plane: RunningPlane) -> None:
    key = plane.serve(refusing_endpoint())
    assert plane.call(lambda: plane.plane.close(key)) == 0
    assert plane.drained == []


def test_an_address_can_be_opened_again_at_once_while_old_connections_go_on(plane: RunningPlane) -> None:
    with Server(echo) as server:
        key = plane.serve(server.endpoint)
        balancer = plane.balancer(server.endpoint)

        def again() -> None:
            plane.plane.close(key)
            plane.plane.open(Binding(key, key.port), balancer.service_port, balancer, keep_client_address=False)

        with connect(key) as old:
            old.sendall(b"1")
            assert old.recv(1) == b"1"
            plane.call(again)
            with connect(key) as new:
                new.sendall(b"2")
                old.sendall(b"3")
                assert (new.recv(1), old.recv(1)) == (b"2", b"3")
                assert plane.call(lambda: plane.plane.connections(key)) == 2
        plane.until(lambda: plane.plane.open_connections == 0)
        assert plane.drained == []


def test_new_endpoints_get_the_new_connections_and_old_connections_stay(plane: RunningPlane) -> None:
    with Server(echo) as old, Server(echo) as new:
        key = plane.serve(old.endpoint)
        with connect(key) as first:
            first.sendall(b"1")
            assert first.recv(1) == b"1"
            balancer = plane.balancer(new.endpoint)
            plane.call(lambda: plane.plane.update(key, balancer, keep_client_address=False))
            with connect(key) as second:
                second.sendall(b"2")
                assert second.recv(1) == b"2"
            first.sendall(b"3")
            assert first.recv(1) == b"3"
        assert (len(old.peers), len(new.peers)) == (1, 1)


def test_a_port_that_somebody_holds_is_reported_with_the_remedy(plane: RunningPlane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        key = RouteKey("127.0.0.1", Protocol.TCP, holder.getsockname()[1])
        balancer = plane.balancer()
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{key.port}/TCP: Address already in use; .*ss -lntp"):
            plane.call(lambda: plane.plane.open(Binding(key, key.port), balancer.service_port, balancer, keep_client_address=False))
    plane.call(lambda: plane.plane.open(Binding(key, key.port), balancer.service_port, balancer, keep_client_address=False))


def test_an_address_that_the_machine_lacks_is_reported(plane: RunningPlane) -> None:
    key = RouteKey("192.0.2.1", Protocol.TCP, free_port())
    balancer = plane.balancer()
    with pytest.raises(ListenError, match="does not have the address"):
        plane.call(lambda: plane.plane.open(Binding(key, key.port), balancer.service_port, balancer, keep_client_address=False))


def test_accepted_sockets_inherit_what_the_listener_has() -> None:
    settings = TcpSettings()
    binding = Binding(RouteKey("127.0.0.1", Protocol.TCP, 80), 20080)
    with socket.socket() as listener:
        for option in listener_options(binding, socket.AF_INET, settings):
            listener.setsockopt(*option)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                for level, name, value in listener_options(binding, socket.AF_INET, settings):
                    assert accepted.getsockopt(level, name) == value


def test_the_rest_of_a_listener_is_untouched_by_the_end_of_one_connection(plane: RunningPlane) -> None:
    with Server(echo) as server:
        key = plane.serve(server.endpoint)
        with connect(key) as staying:
            for _ in range(20):
                leaving = connect(key)
                leaving.sendall(b"x")
                reset(leaving)
            staying.sendall(b"here")
            assert read_exactly(staying, 4) == b"here"
        plane.until(lambda: plane.plane.open_connections == 0)


def test_stopping_to_listen_closes_everything_but_connections_and_aborting_ends_those(plane: RunningPlane) -> None:
    with Server(echo) as server:
        first, second = plane.serve(server.endpoint), plane.serve(server.endpoint, name="other")
        with connect(first) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            plane.call(plane.plane.stop_listening)
            for key in (first, second):
                with pytest.raises(ConnectionRefusedError):
                    connect(key)
            assert plane.plane.open_connections == 1
            plane.call(plane.plane.abort_all)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert plane.plane.open_connections == 0
            assert plane.drained == [first]


def test_twenty_thousand_connections_leave_nothing_behind(plane: RunningPlane) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        key = plane.serve(Endpoint(*listener.getsockname()))
        before = (open_descriptors(), plane.descriptors.taken)
        for _ in range(200):
            clients = [connect(key) for _ in range(100)]
            for client in clients:
                client.sendall(b"x")
            for _ in clients:
                accepted, _ = listener.accept()
                with accepted:
                    accepted.sendall(accepted.recv(1))
            for client in clients:
                with client:
                    assert read_all(client) == b"x"
        plane.until(lambda: plane.plane.open_connections == 0)
        assert plane.call(lambda: (open_descriptors(), plane.descriptors.taken)) == before
        assert plane.call(plane.plane.totals).accepted == 20000


def test_a_connection_that_has_ended_leaves_nothing_for_the_garbage_collector(plane: RunningPlane) -> None:
    with Server(echo) as server:
        key = plane.serve(refusing_endpoint(), server.endpoint)
        gc.collect()
        gc.disable()
        try:
            for number in range(30):
                with connect(key) as client:
                    client.sendall(b"x")
                    assert client.recv(1) == b"x"
                    if number % 3 == 0:
                        reset(client)
            plane.until(lambda: plane.plane.open_connections == 0)
            left = [thing for thing in plane.call(gc.get_objects) if isinstance(thing, (Connection, Dial)) and thing is not _ENDED]
        finally:
            gc.enable()
    assert left == []


def test_a_connection_that_lasts_is_watched_for_a_peer_that_vanishes(start_plane: Callable[..., RunningPlane]) -> None:
    """A short one is spared the system calls; keepalive_idle / 20 is the period after which they are made."""
    plane = start_plane(Config(tcp=TcpSettings(keepalive_idle=Duration(1))))
    with Server(echo) as server, connect(plane.serve(server.endpoint)) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        ((connection,),) = plane.call(lambda: [tuple(listener.connections) for listener in plane.plane._tcp_listeners()])
        assert isinstance(connection, Connection)
        upstream = connection.upstream.sock
        plane.until(lambda: upstream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000)
        assert upstream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert upstream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_bug_that_one_client_meets_ends_that_client_alone(start_plane: Callable[..., RunningPlane]) -> None:
    class Buggy:
        """Fails for one client."""

        def keeps(self, client: str, endpoint: Endpoint) -> bool:  # noqa: ARG002 - the Protocol's parameters
            if client == "127.0.0.66":
                raise RuntimeError("a bug")
            return False

    plane = start_plane(client_addresses=Buggy())
    with Server(echo) as server:
        key = plane.serve(server.endpoint, keep_client_address=True)
        with pytest.raises(ConnectionResetError), connect(key, source="127.0.0.66") as unlucky:
            unlucky.recv(1)
        with connect(key) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
    assert [str(error) for error in plane.log.unexpected] == ["a bug"]
    plane.log.unexpected.clear()
