"""uproxy.io/max-connections and uproxy.io/idle-timeout: connections that are one too many, or that have gone quiet."""

from __future__ import annotations

import gc
import socket
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.annotated import Annotated
from tests.dataplane.running import Server, connect, echo, read_all, read_exactly
from uproxy.config import Config, TcpSettings
from uproxy.core.model import NO_OPTIONS, RouteKey, ServiceOptions
from uproxy.dataplane.annotated import AnnotatedConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

IDLE = 0.4


def answered(key: RouteKey) -> socket.socket:
    """Give a connection whose endpoint has answered; raises ConnectionResetError."""
    with ExitStack() as owned:
        client = owned.enter_context(connect(key))
        client.sendall(b"?")
        assert client.recv(1) == b"?", "it ended without a reset"
        owned.pop_all()
    return client


def silently(sock: socket.socket) -> None:
    """Take what comes and say nothing."""
    with suppress(ConnectionResetError):
        read_all(sock)


def test_a_connection_beyond_the_limit_is_reset_and_one_that_ends_makes_room(plane: RunningPlane) -> None:
    with Server(echo) as server:
        served = Annotated(plane, ServiceOptions(max_connections=2), server.endpoint)
        with answered(served.key), answered(served.key) as second:
            for _ in range(3):
                with pytest.raises(ConnectionResetError):
                    answered(served.key)
            assert plane.counters.connections_over_limit == 3
            second.close()
            plane.until(lambda: plane.plane.open_connections == 1)
            answered(served.key).close()
    assert len(server.peers) == 3
    assert plane.counters.connections_over_limit == 3


def test_the_limit_is_shared_by_all_addresses_of_a_service_port_and_by_no_other(plane: RunningPlane) -> None:
    with Server(echo) as server:
        first = Annotated(plane, ServiceOptions(max_connections=1), server.endpoint)
        second = Annotated(plane, ServiceOptions(max_connections=1), server.endpoint, vip="127.0.0.2")
        other = Annotated(plane, ServiceOptions(max_connections=1), server.endpoint, name="other")
        with answered(first.key), answered(other.key), pytest.raises(ConnectionResetError):
            answered(second.key)


def test_connections_from_before_the_limit_count_and_stay(plane: RunningPlane) -> None:
    with Server(echo) as server:
        served = Annotated(plane, NO_OPTIONS, server.endpoint)
        with answered(served.key) as old, answered(served.key):
            served.ask_for(ServiceOptions(max_connections=2))
            with pytest.raises(ConnectionResetError):
                answered(served.key)
            served.ask_for(ServiceOptions(max_connections=3))
            answered(served.key).close()
            old.sendall(b"still")
            assert read_exactly(old, 5) == b"still"


def test_a_silent_connection_is_reset_after_the_timeout_and_not_before(plane: RunningPlane) -> None:
    ends = []

    def watch(sock: socket.socket) -> None:
        try:
            while data := sock.recv(100):
                sock.sendall(data)
        except ConnectionResetError:
            ends.append("reset")

    with Server(watch) as server:
        served = Annotated(plane, ServiceOptions(idle_timeout=IDLE), server.endpoint)
        with answered(served.key) as client:
            began = time.monotonic()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert IDLE - 0.05 < time.monotonic() - began < IDLE + 1
    assert ends == ["reset"]
    assert plane.counters.idle_timeouts == 1
    assert len(served.balancer.loads) == 0


@pytest.mark.parametrize("speaker", ["client", "endpoint"])
def test_bytes_in_either_direction_keep_a_connection_alive(plane: RunningPlane, speaker: str) -> None:
    def talk(sock: socket.socket) -> None:
        if speaker == "client":
            read_exactly(sock, 10)
        else:
            for _ in range(10):
                sock.sendall(b".")
                time.sleep(IDLE / 4)
        sock.sendall(b"!")

    with Server(talk) as server, connect(Annotated(plane, ServiceOptions(idle_timeout=IDLE), server.endpoint).key) as client:
        if speaker == "client":
            for _ in range(10):
                client.sendall(b".")
                time.sleep(IDLE / 4)
            assert client.recv(1) == b"!"
        else:
            assert read_exactly(client, 11) == b"." * 10 + b"!"
    assert plane.counters.idle_timeouts == 0


def test_a_half_closed_connection_that_is_silent_ends_as_well(plane: RunningPlane) -> None:
    def silent(sock: socket.socket) -> None:
        assert sock.recv(1) == b""
        time.sleep(3 * IDLE)

    with Server(silent) as server, connect(Annotated(plane, ServiceOptions(idle_timeout=IDLE), server.endpoint).key) as client:
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_connection_lives_on_once_the_timeout_was_taken_away(plane: RunningPlane) -> None:
    with Server(echo) as server:
        served = Annotated(plane, ServiceOptions(idle_timeout=IDLE), server.endpoint)
        with answered(served.key) as client:
            served.ask_for(NO_OPTIONS)
            time.sleep(2 * IDLE)
            client.sendall(b"here")
            assert read_exactly(client, 4) == b"here"


@pytest.mark.parametrize("options", [NO_OPTIONS, ServiceOptions(idle_timeout=3600)], ids=["none", "an hour"])
def test_a_timeout_that_is_asked_for_later_ends_connections_that_are_open_already(plane: RunningPlane, options: ServiceOptions) -> None:
    with Server(silently) as server:
        served = Annotated(plane, options, server.endpoint)
        with connect(served.key) as quiet, connect(served.key) as talking:
            plane.until(lambda: len(server.peers) == 2)
            served.ask_for(ServiceOptions(idle_timeout=IDLE))
            began = time.monotonic()
            for _ in range(8):
                talking.sendall(b".")
                time.sleep(IDLE / 4)
            with pytest.raises(ConnectionResetError):
                quiet.recv(1)
            assert plane.counters.idle_timeouts == 1
            with pytest.raises(ConnectionResetError):
                talking.recv(1)
            assert time.monotonic() - began > 2.5 * IDLE
    assert plane.counters.idle_timeouts == 2


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_bytes_that_are_spliced_keep_a_connection_alive(start_plane: Callable[..., RunningPlane], direction: str) -> None:
    plane = start_plane(Config(tcp=TcpSettings(splice_after=1)))
    part, pauses = bytes(1 << 20), 12

    def send(sock: socket.socket) -> None:
        for _ in range(pauses):
            sock.sendall(part)
            time.sleep(IDLE / 4)
        sock.shutdown(socket.SHUT_WR)

    def receive(sock: socket.socket) -> None:
        assert len(read_all(sock)) == pauses * len(part)

    serve, use = (receive, send) if direction == "upload" else (send, receive)
    with Server(serve) as server, connect(Annotated(plane, ServiceOptions(idle_timeout=IDLE), server.endpoint).key) as client:
        use(client)
        if direction == "upload":
            assert client.recv(1) == b""
    assert plane.counters.idle_timeouts == 0
    assert plane.counters.spliced_bytes > pauses * len(part) / 2


def test_a_client_that_reads_nothing_more_is_silent_once_the_buffers_are_full(plane: RunningPlane) -> None:
    ends = []

    def flood(sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(bytes(1 << 20))
        except ConnectionResetError:
            ends.append("reset")

    with Server(flood) as server, connect(Annotated(plane, ServiceOptions(idle_timeout=IDLE), server.endpoint).key):
        plane.until(lambda: plane.counters.idle_timeouts == 1)
    assert ends == ["reset"]


def test_a_connection_that_ended_is_not_kept_until_its_timeout(plane: RunningPlane) -> None:
    with Server(echo) as server:
        served = Annotated(plane, ServiceOptions(idle_timeout=3600), server.endpoint)
        for _ in range(200):
            answered(served.key).close()
        plane.until(lambda: plane.plane.open_connections == 0)
        gc.collect()
        assert [each for each in gc.get_objects() if isinstance(each, AnnotatedConnection)] == []


def test_the_listener_of_another_service_that_takes_the_address_has_its_own_limit(plane: RunningPlane) -> None:
    with Server(echo) as server:
        served = Annotated(plane, ServiceOptions(max_connections=1), server.endpoint)
        heir = plane.balancer(server.endpoint, name="heir")
        with answered(served.key):
            plane.call(lambda: plane.plane.update(served.key, heir, keep_client_address=False))
            with answered(served.key), answered(served.key):
                assert plane.counters.connections_over_limit == 0
