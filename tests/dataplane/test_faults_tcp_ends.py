"""How a TCP connection ends: half-closes, resets, silence, and the bytes before them."""

from __future__ import annotations

import fcntl
import random
import selectors
import socket
import struct
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.running import WAIT, Server, connect, echo, open_descriptors, read_all, read_exactly, reset, resident_bytes
from uproxy.config import Config, TcpSettings
from uproxy.config_rules import Duration
from uproxy.core.model import Endpoint
from uproxy.dataplane.resetting import is_sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

MEBIBYTE = 1 << 20


def unacknowledged(sock: socket.socket) -> int:
    """Count the bytes that the peer's kernel has not acknowledged (tcp(7), SIOCOUTQ)."""
    size: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return size


def until_acknowledged(sock: socket.socket) -> None:
    """Wait until everything sent is in the peer's kernel; the kernel reports no event for that."""
    end = time.monotonic() + WAIT
    while unacknowledged(sock):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_reply_arrives_whole_after_the_client_has_closed_its_direction(plane: RunningPlane) -> None:
    reply = random.Random(1).randbytes(300_000)

    def answer(sock: socket.socket) -> None:
        assert read_all(sock) == b"request"
        sock.sendall(reply)

    with Server(answer) as server:
        key = plane.serve(server.endpoint)
        for _ in range(100):
            with connect(key) as client:
                client.sendall(b"request")
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == reply


def test_an_upload_arrives_whole_after_the_server_has_closed_its_direction(plane: RunningPlane) -> None:
    upload = random.Random(2).randbytes(10 * MEBIBYTE)
    received: list[bytes] = []

    def close_then_read(sock: socket.socket) -> None:
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        received.append(read_all(sock))

    with Server(close_then_read) as server, connect(plane.serve(server.endpoint)) as client:
        assert read_all(client) == b"bye"
        client.sendall(upload)
        client.shutdown(socket.SHUT_WR)
    assert received == [upload]


def test_a_reset_by_the_endpoint_reaches_the_client_as_a_reset(plane: RunningPlane) -> None:
    def answer_and_reset(sock: socket.socket) -> None:
        assert sock.recv(4) == b"ping"
        reset(sock)

    with Server(answer_and_reset) as server:
        key = plane.serve(server.endpoint)
        for _ in range(100):
            with connect(key) as client:
                client.sendall(b"ping")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
    plane.until(lambda: plane.plane.open_connections == 0)
    assert plane.counters.connections_reset == {"ECONNRESET": 100}


def test_a_reset_by_the_client_reaches_the_endpoint_as_a_reset(plane: RunningPlane) -> None:
    resets: list[bool] = []

    def expect_reset(sock: socket.socket) -> None:
        sock.sendall(sock.recv(4))
        try:
            resets.append(sock.recv(1) != b"" and False)
        except ConnectionResetError:
            resets.append(True)

    with Server(expect_reset) as server:
        key = plane.serve(server.endpoint)
        for _ in range(100):
            client = connect(key)
            client.sendall(b"ping")
            assert read_exactly(client, 4) == b"ping"
            reset(client)
    assert resets == [True] * 100


def test_a_reset_that_follows_a_fin_at_once_comes_after_that_fin(plane: RunningPlane) -> None:
    """What was sent before the FIN is a whole message for the endpoint, with or without a proxy."""
    messages: list[bytes] = []
    with Server(lambda sock: messages.append(read_all(sock))) as server:
        key = plane.serve(server.endpoint)
        for _ in range(100):
            client = connect(key)
            client.sendall(b"message")
            client.shutdown(socket.SHUT_WR)
            reset(client)
        plane.until(lambda: len(messages) == 100)
    assert messages == [b"message"] * 100


@pytest.mark.parametrize("through_the_proxy", [False, True])
def test_what_was_acknowledged_before_a_reset_still_arrives(plane: RunningPlane, *, through_the_proxy: bool) -> None:
    """The server closes with unread bytes, so its kernel resets; the client reads slowly, and still writes."""
    reply = random.Random(3).randbytes(200_000)

    def reply_then_reset(sock: socket.socket) -> None:
        sock.sendall(reply)
        until_acknowledged(sock)

    with Server(reply_then_reset) as server:
        key = plane.serve(server.endpoint)
        for _ in range(30):
            with socket.create_connection((key.vip, key.port) if through_the_proxy else server.endpoint, timeout=WAIT) as client:
                client.sendall(b"never read")
                received = bytearray()
                with suppress(ConnectionError):
                    while data := client.recv(10_000):
                        received += data
                        with suppress(ConnectionError):
                            client.send(b"still writing")
                assert bytes(received) == reply


def test_a_reset_waits_for_a_client_whose_window_is_small(plane: RunningPlane) -> None:
    """Here most of the reply is still in our own send queue, or held, when the reset comes: direct TCP would lose nothing of it either."""
    reply = random.Random(4).randbytes(3 * MEBIBYTE)
    gone = threading.Event()

    def reply_then_reset(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        sock.sendall(reply)
        until_acknowledged(sock)
        reset(sock)
        gone.set()

    with Server(reply_then_reset) as server:
        key = plane.serve(server.endpoint)
        with socket.socket() as client:
            client.settimeout(WAIT)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.connect((key.vip, key.port))
            received = bytearray()
            with pytest.raises(ConnectionResetError):  # noqa: PT012 - the reset comes after the last byte, not before
                while True:
                    received += client.recv(50_000)
                    if len(received) > 2 * MEBIBYTE and not gone.wait(0.01):
                        continue
            assert bytes(received) == reply
    plane.until(lambda: plane.plane.open_connections == 0)


def test_a_client_that_never_reads_does_not_keep_a_reset_waiting_for_ever(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(user_timeout=Duration(0.5))))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        key = plane.serve(Endpoint(*listener.getsockname()))
        with connect(key):
            server, _ = listener.accept()
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):  # noqa: PT012 - it ends when every buffer on the way is full
                while True:
                    server.send(bytes(MEBIBYTE))
            reset(server)
            plane.until(lambda: plane.plane.open_connections == 0)


def test_a_half_closed_connection_that_is_silent_for_too_long_is_reset(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(half_close_timeout=Duration(0.3))))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        key = plane.serve(Endpoint(*listener.getsockname()))
        with connect(key) as client:
            server, _ = listener.accept()
            with server:
                server.settimeout(WAIT)
                began = time.monotonic()
                client.shutdown(socket.SHUT_WR)
                assert read_all(server) == b""
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                assert 0.25 < time.monotonic() - began < 2
                plane.until(lambda: plane.plane.open_connections == 0)
                with pytest.raises(BrokenPipeError):  # what a reset after a FIN is (tcp(7), EPIPE)
                    server.send(b"x")
    assert plane.counters.half_close_timeouts == 1


def test_a_half_closed_connection_lives_as_long_as_bytes_come(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(half_close_timeout=Duration(0.5))))

    def trickle(sock: socket.socket) -> None:
        assert read_all(sock) == b""
        for _ in range(12):
            time.sleep(0.1)
            sock.sendall(b".")

    with Server(trickle) as server, connect(plane.serve(server.endpoint)) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"." * 12
    assert plane.counters.half_close_timeouts == 0


def test_a_connection_that_is_open_both_ways_may_be_silent(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(half_close_timeout=Duration(0.1))))
    with Server(echo) as server, connect(plane.serve(server.endpoint)) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        time.sleep(0.4)
        client.sendall(b"y")
        assert client.recv(1) == b"y"


def test_a_slow_reader_blocks_the_sender_and_costs_no_memory(plane: RunningPlane) -> None:
    """A hundred pairs, each sender pouring until it blocks: what this process holds per pair is at most one receive buffer."""
    pairs = 100
    chunk = bytes(MEBIBYTE)
    with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as ready:
        key = plane.serve(Endpoint(*listener.getsockname()))
        clients, servers = [], []
        for _ in range(pairs):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.connect((key.vip, key.port))
            clients.append(client)
            server, _ = listener.accept()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            server.setblocking(False)
            servers.append(server)
            ready.register(server, selectors.EVENT_WRITE)
        before, sent = resident_bytes(), dict.fromkeys(servers, 0)
        while events := ready.select(0.5):
            for entry, _ in events:
                with suppress(BlockingIOError):
                    sent[entry.fileobj] += entry.fileobj.send(chunk)  # type: ignore[index,union-attr] # the selector types files loosely
        assert resident_bytes() - before < pairs * 2 * plane.config.tcp.receive_buffer
        for client, server in zip(clients, servers, strict=True):
            ready.unregister(server)
            server.close()
            client.settimeout(WAIT)
            assert len(read_all(client)) == sent[server]
            client.close()


def most_on_the_way() -> int:
    """Give the bytes that the buffers of four sockets can hold at most in one direction and back, as the kernel is set here."""
    largest = [int(Path(f"/proc/sys/net/ipv4/tcp_{kind}mem").read_text().split()[-1]) for kind in "rw"]
    return 4 * sum(largest)


def test_back_pressure_both_ways_at_once_is_no_deadlock(plane: RunningPlane) -> None:
    data = random.Random(6).randbytes(16 * MEBIBYTE) * (most_on_the_way() // (16 * MEBIBYTE) + 1)
    sent = threading.Event()

    def upload(client: socket.socket) -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        sent.set()

    with Server(echo) as server, connect(plane.serve(server.endpoint)) as client:
        sender = threading.Thread(target=upload, args=(client,))
        sender.start()
        assert not sent.wait(1), "more fits into the buffers on the way than this test sends"
        assert read_all(client) == data
        sender.join()


def test_resets_at_any_moment_of_bulk_leave_no_descriptor_behind(plane: RunningPlane) -> None:
    rng = random.Random(7)
    with Server(echo) as server:
        key = plane.serve(server.endpoint)
        before = open_descriptors() - 2 * len(plane.plane._tcp.pipes)
        for _ in range(100):
            client = connect(key)
            client.setblocking(False)
            with suppress(BlockingIOError):
                for _ in range(rng.randrange(1, 40)):
                    client.send(bytes(1 << 16))
            reset(client)
        plane.until(lambda: plane.plane.open_connections == 0)
    assert plane.call(lambda: open_descriptors() - 2 * len(plane.plane._tcp.pipes)) == before - 1


def test_unsent_bytes_and_an_unsent_fin_are_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        assert is_sent(client)
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(bytes(1 << 16))
        assert not is_sent(client)
