"""The load's server and its command line, as the measurements use them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.load.server import DISCARD, ECHO, NAME, STREAM
from tests.bench.peers import closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.99.0.1"
"""An address of its own: the ports are the same everywhere."""


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """Run the load's server."""
    command = [sys.executable, "-m", "bench.load.server", HOST]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def load(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.load", *arguments, "--seconds", "0.2", "--warm-up", "0.1"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("kind", "port"), [("up", DISCARD), ("down", STREAM), ("requests", ECHO), ("connections", ECHO), ("datagrams", ECHO)]
)
def test_every_kind_of_load_says_when_it_measures_and_what_it_found(kind: str, port: int) -> None:
    done = load(kind, HOST, str(port), "--connections", "4")

    measuring, result = map(json.loads, done.stdout.splitlines())
    assert measuring == {"measuring": True}
    assert result["units"] > 0
    assert result["failed"] == 0
    assert 0.2 <= result["seconds"] < 1


def test_a_target_that_cannot_be_reached_is_one_line_and_exit_code_1() -> None:
    host, port = closed_port()

    done = load("requests", host, str(port))

    assert done.returncode == 1
    assert done.stderr == f"requests {host}:{port}: [Errno 111] Connection refused\n"


@pytest.mark.usefixtures("server")
def test_the_echo_returns_a_large_message_unchanged_to_a_slow_reader() -> None:
    message = bytes(range(256)) * 4096
    answer = bytearray()
    with socket.create_connection((HOST, ECHO), timeout=10) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.settimeout(0)
        unsent = memoryview(message)
        while len(answer) < len(message):
            unsent = unsent[_some(sock.send, unsent[:30_000]) :] if unsent else unsent
            answer += _received(sock)

    assert answer == message


@pytest.mark.usefixtures("server")
def test_the_name_service_tells_both_ends_of_the_connection() -> None:
    with socket.create_connection((HOST, NAME), timeout=10, source_address=("127.99.0.2", 0)) as sock:
        assert sock.recv(100) == f"{HOST} 127.99.0.2\n".encode()


def _some(send: object, data: memoryview) -> int:
    assert callable(send)
    try:
        return int(send(data))
    except BlockingIOError:
        return 0


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65_536)
    except BlockingIOError:
        return b""
