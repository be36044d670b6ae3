"""The load's server and its command line, as the measurements use them."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.load.server import ANSWER, DISCARD, ECHO, NAME, STREAM
from tests.bench.peers import closed_port, tcp_server

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
    ("kind", "port"),
    [
        ("up", DISCARD),
        ("down", STREAM),
        ("both", STREAM),
        ("requests", ECHO),
        ("paced", ECHO),
        ("connections", ECHO),
        ("connections-until-end", ANSWER),
        ("storm", ECHO),
        ("idle", ECHO),
        ("datagrams", ECHO),
        ("queries", ECHO),
        ("flood", DISCARD),
    ],
)
def test_every_kind_of_load_says_when_it_measures_and_what_it_found(kind: str, port: int) -> None:
    done = load(kind, HOST, str(port), "--connections", "4")

    measuring, result = map(json.loads, done.stdout.splitlines())
    assert measuring == {"measuring": True}
    assert result["units"] > 0
    assert (result["failed"], result["lost"], result["error"]) == (0, 0, "")
    assert 0.2 <= result["seconds"] < 2


@pytest.mark.usefixtures("server")
def test_both_ways_the_stream_sends_and_discards_at_the_same_time() -> None:
    done = load("both", HOST, str(STREAM))

    extra = json.loads(done.stdout.splitlines()[1])["extra"]
    assert extra["up"] > 0.01
    assert extra["down"] > 0.01


@pytest.mark.usefixtures("server")
def test_it_is_the_server_who_closes_first() -> None:
    before = in_time_wait(ANSWER)

    load("connections-until-end", HOST, str(ANSWER), "--connections", "2")

    # Who closes first keeps the connection in TIME_WAIT: the client does so with the two that were under way at the end.
    # Fewer than were served: ports of an earlier run are taken again.
    closed = [local == (HOST, ANSWER) for local, _remote in in_time_wait(ANSWER) - before]
    assert closed.count(False) <= 2
    assert closed.count(True) > 10


def test_a_rate_or_a_number_that_is_none_is_refused() -> None:
    for flag in ("--rate", "--connections", "--size"):
        done = load("paced", HOST, str(ECHO), flag, "0")

        assert done.returncode == 2
        assert "above 0" in done.stderr


def test_a_target_that_cannot_be_reached_is_one_line_and_exit_code_1() -> None:
    host, port = closed_port()

    done = load("requests", host, str(port))

    assert done.returncode == 1
    assert done.stderr == f"requests {host}:{port}: [Errno 111] Connection refused\n"


@pytest.mark.parametrize("kind", ["up", "requests", "paced"])
def test_a_target_that_breaks_under_the_load_is_one_line_and_exit_code_1(kind: str) -> None:
    def reset(sock: socket.socket) -> None:
        sock.recv(100_000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with tcp_server(reset) as (host, port):
        done = load(kind, host, str(port), "--connections", "2")

    assert done.returncode == 1
    assert done.stderr == f"{kind} {host}:{port}: [Errno 104] Connection reset by peer\n"


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


def in_time_wait(port: int) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    """List the connections to or from a port of ours that are in TIME_WAIT: both ends, local first (proc_pid_net(5))."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    ends = [(_end(fields[1]), _end(fields[2])) for fields in lines if fields[3] == "06"]
    return {pair for pair in ends if (HOST, port) in pair}


def _end(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    return socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder)), int(port, 16)


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
