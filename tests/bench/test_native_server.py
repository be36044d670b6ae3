"""The load's server, native and in Python, does the same on its ports, and each generator of one works with the server of the other."""

from __future__ import annotations

import socket
import time
from itertools import product
from typing import TYPE_CHECKING

import pytest

from bench.load.native import KINDS
from bench.load.server import ANSWER, COUNTS, DISCARD, ECHO, NAME, STREAM
from tests.bench.loads import BOTH, NATIVE, PYTHON, load, measured, server

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = ("127.99.0.5", "::1")
"""Addresses of its own: the ports are the same everywhere."""
PORTS = {"up": DISCARD, "down": STREAM, "both": STREAM, "connections-until-end": ANSWER}
"""Where a kind does not go to the echo."""


@pytest.fixture(scope="module", params=product(BOTH, HOSTS), ids="-".join)
def site(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Run a server, give its implementation and its address."""
    implementation, host = request.param
    with server(implementation, host):
        yield implementation, host


@pytest.fixture
def host(site: tuple[str, str]) -> str:
    """Give the server's address."""
    return site[1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_native_kind_works_with_both_servers(kind: str, site: tuple[str, str]) -> None:
    found = measured(load(NATIVE, kind, (site[1], PORTS.get(kind, ECHO)), "--connections", "4", "--warm-up", "0.05"))

    assert found.units > 10
    assert (found.failed, found.lost, found.error, found.extra) == (0, 0, "", {})
    assert 0 < found.p50 <= found.p99 <= found.p999
    assert 0.15 <= found.seconds < 2


@pytest.mark.parametrize("kind", ["up", "down", "both", *KINDS])
def test_every_kind_in_python_works_with_both_servers(kind: str, site: tuple[str, str]) -> None:
    found = measured(load(PYTHON, kind, (site[1], PORTS.get(kind, ECHO)), "--connections", "4"))

    assert found.units > 10
    assert (found.failed, found.lost, found.error) == (0, 0, "")


def test_the_echo_returns_a_large_message_unchanged_to_a_slow_reader(host: str) -> None:
    message = bytes(range(256)) * 16384
    answer = bytearray()
    with socket.create_connection((host, ECHO), timeout=10) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.settimeout(0)
        unsent = memoryview(message)
        deadline = time.monotonic() + 60
        while len(answer) < len(message) and time.monotonic() < deadline:
            unsent = unsent[_sent(sock, unsent[:300_000]) :]
            answer += _received(sock)

    assert answer == message


def test_an_echo_whose_client_vanishes_leaves_the_others_alone(host: str) -> None:
    with socket.create_connection((host, ECHO), timeout=10) as staying:
        for _ in range(20):
            leaving = socket.create_connection((host, ECHO), timeout=10)
            leaving.settimeout(0)
            while _sent(leaving, memoryview(bytes(300_000))):
                pass
            leaving.close()  # with its answer unread: the server's next send meets a reset
        staying.sendall(b"still there")
        assert staying.recv(100) == b"still there"


def test_the_answer_comes_back_and_the_server_closes_first(host: str) -> None:
    with socket.create_connection((host, ANSWER), timeout=10) as sock:
        sock.sendall(b"one request")
        with sock.makefile("rb") as stream:
            assert stream.read() == b"one request"


def test_the_name_service_tells_both_ends_of_the_connection(host: str) -> None:
    with socket.create_connection((host, NAME), timeout=10) as sock:
        own = sock.getsockname()[0]
        assert sock.recv(200) == f"{host} {own}\n".encode()


def test_datagrams_come_back_from_the_echo_whatever_their_size(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect((host, ECHO))
        for size in (0, 1, 1400, 8000, 65_000):
            sock.send(bytes(size))
            assert sock.recv(65_536) == bytes(size)


def test_discarded_datagrams_are_counted_one_by_one(host: str) -> None:
    before = _discarded(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((host, DISCARD))
        for number in range(300):
            sock.send(bytes(number))
    deadline = time.monotonic() + 10
    while (found := _discarded(host) - before) < 300 and time.monotonic() < deadline:
        time.sleep(0.01)

    assert found == 300


def test_bytes_sent_to_discard_are_taken_and_none_comes_back(host: str) -> None:
    with socket.create_connection((host, DISCARD), timeout=10) as sock:
        sock.sendall(bytes(5_000_000))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def _discarded(host: str) -> int:
    with socket.create_connection((host, COUNTS), timeout=10) as sock:
        return int(sock.recv(100))


def _sent(sock: socket.socket, data: memoryview) -> int:
    try:
        return sock.send(data) if data else 0
    except BlockingIOError:
        return 0


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65_536)
    except BlockingIOError:
        return b""
