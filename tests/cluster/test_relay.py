"""The relay passes bytes on faithfully, and damages them exactly as it is told, while they flow."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster import objects
from tests.cluster.api_client import ApiClient
from tests.cluster.certificates import NODE_PROXIER
from tests.cluster.control_plane import STATIC_TOKENS
from tests.cluster.relay import HEALTHY, STALLED, Fault, Relay, damaged
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.control_plane import ControlPlane

BULK: Final = bytes(range(256)) * 4096
"""A megabyte, which no pipe on the way takes whole."""
SOON: Final = 0.3


@contextmanager
def speaker(*pieces: bytes) -> Iterator[int]:
    """Serve TCP on a port: each piece is sent when the client has sent one byte more; then the end."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=speak, args=(connection,), daemon=True).start()

    def speak(connection: socket.socket) -> None:
        with connection:
            try:
                for piece in pieces:
                    if not connection.recv(1):
                        return
                    connection.sendall(piece)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def relayed(*pieces: bytes) -> Iterator[Relay]:
    """Put a relay that ends no TLS before a speaker."""
    with speaker(*pieces) as port, Relay(lambda: socket.create_connection(("127.0.0.1", port))) as relay:
        yield relay


@contextmanager
def client_of(relay: Relay) -> Iterator[socket.socket]:
    """Connect to a relay."""
    with socket.create_connection(("127.0.0.1", relay.port), 10) as client:
        yield client


def hear(client: socket.socket, size: int) -> bytes:
    """Ask for one piece and read size bytes, or less at the end."""
    client.sendall(b"?")
    found = b""
    while len(found) < size and (part := client.recv(size - len(found))):
        found += part
    return found


def test_bytes_pass_as_they_are_and_are_counted() -> None:
    with relayed(BULK, b"more") as relay, client_of(relay) as client:
        assert hashlib.sha256(hear(client, len(BULK))).digest() == hashlib.sha256(BULK).digest()
        eventually(lambda: relay.traffic.to_clients == len(BULK))
        assert (relay.traffic.accepted, relay.traffic.open, relay.traffic.to_server) == (1, 1, 1)


def test_the_end_of_one_side_is_the_end_of_the_other() -> None:
    with relayed(b"last") as relay, client_of(relay) as client:
        assert hear(client, 4) == b"last"
        assert client.recv(1) == b""
        eventually(lambda: relay.traffic.open == 0)


def test_each_piece_waits_as_long_as_the_delay() -> None:
    with relayed(b"one", b"two") as relay, client_of(relay) as client:
        for word, delay in ((b"one", SOON), (b"two", 0.0)):
            relay.fault = Fault(delay=delay)
            began = time.monotonic()
            assert hear(client, 3) == word
            assert (time.monotonic() - began >= SOON) == bool(delay)


def test_a_stalled_connection_stays_open_and_goes_on_where_it_stopped() -> None:
    with relayed(b"one", b"two") as relay, client_of(relay) as client:
        assert hear(client, 3) == b"one"
        client.settimeout(SOON)
        with relay.faulty(STALLED), pytest.raises(TimeoutError):
            hear(client, 3)
        client.settimeout(10)
        assert client.recv(3) == b"two"


def test_a_stream_stalls_in_the_middle_of_a_piece() -> None:
    with relayed(b"one", b"two") as relay, client_of(relay) as client:
        relay.fault = Fault(then="stall", after=4)
        assert hear(client, 3) == b"one"
        assert hear(client, 1) == b"t"
        relay.fault = HEALTHY
        assert client.recv(2, socket.MSG_WAITALL) == b"wo"


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_stream_is_cut_after_so_many_bytes(end: str) -> None:
    with relayed(BULK) as relay, client_of(relay) as client:
        relay.fault = Fault(then="close" if end == "close" else "reset", after=1000)
        try:
            found = hear(client, len(BULK))
        except ConnectionResetError:
            assert end == "reset"
        else:
            assert found == BULK[:1000]
            assert end == "close"


def test_bytes_are_counted_from_when_the_fault_came_into_force() -> None:
    with relayed(b"one", b"two", b"three") as relay, client_of(relay) as client:
        assert hear(client, 3) == b"one"
        relay.fault = Fault(then="close", after=5)
        assert hear(client, 3) == b"two"
        assert hear(client, 5) == b"th"


def test_a_fault_that_strikes_twice_is_over_then() -> None:
    with relayed(b"word") as relay:
        relay.fault = Fault(then="close", after=2, times=2)
        words = []
        for _ in range(3):
            with client_of(relay) as client:
                words.append(hear(client, 4))
        assert words == [b"wo", b"wo", b"word"]
        assert relay.fault is HEALTHY


def test_open_connections_can_be_ended_at_once() -> None:
    with relayed(b"one", b"two") as relay, client_of(relay) as first, client_of(relay) as second:
        assert hear(first, 3) == hear(second, 3) == b"one"
        assert relay.cut(reset=True) == 2
        for client in (first, second):
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_new_connections_are_refused_and_accepted_again_on_the_same_port() -> None:
    with relayed(b"one", b"two") as relay, client_of(relay) as client:
        assert hear(client, 3) == b"one"
        relay.refuse()
        with pytest.raises(ConnectionRefusedError), client_of(relay):
            pass
        assert hear(client, 3) == b"two"
        relay.accept()
        with client_of(relay) as another:
            assert hear(another, 3) == b"one"


def test_a_client_is_let_go_when_the_server_is_away() -> None:
    with speaker() as port:
        pass
    with Relay(lambda: socket.create_connection(("127.0.0.1", port))) as relay, client_of(relay) as client:
        assert client.recv(1) == b""


def test_words_are_replaced_and_bytes_flipped_where_they_fall() -> None:
    assert damaged(b"a MODIFIED one", Fault(replace=(b"MODIFIED", b"MO\xff\xffFIED")), 0) == b"a MO\xff\xffFIED one"
    whole = damaged(bytes(10), Fault(flip_every=3), 0)
    assert whole == b"\0\0\xff\0\0\xff\0\0\xff\0"
    assert damaged(bytes(4), Fault(flip_every=3), 0) + damaged(bytes(6), Fault(flip_every=3), 4) == whole


def test_it_ends_tls_before_a_real_api_server(control_plane: ControlPlane, namespace: str) -> None:
    with (
        control_plane.relay() as relay,
        closing(ApiClient(relay.url, token=STATIC_TOKENS[NODE_PROXIER])) as client,
        closing(client.watch("Service", namespace, seconds=20)) as events,
    ):
        control_plane.admin.create(objects.service(namespace, "first", {"http": 80}))
        assert next(events)["object"]["metadata"]["name"] == "first"
        relay.fault = Fault(replace=(b'"ADDED"', b'"ADD\xff"'))
        control_plane.admin.create(objects.service(namespace, "second", {"http": 80}))
        with pytest.raises(UnicodeDecodeError):
            next(events)


def test_it_passes_client_certificates_on_when_it_ends_no_tls(control_plane: ControlPlane) -> None:
    certificate = control_plane.authority.client(NODE_PROXIER).write(control_plane.folder, "behind-relay")
    with control_plane.relay(plain=True) as relay, closing(ApiClient(relay.url, certificate=certificate)) as client:
        assert client.list("Service")["kind"] == "ServiceList"
