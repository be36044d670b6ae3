"""Each load generator counts what really went over its connections, no more and no less."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from bench.load.bulk import Down, Up
from bench.load.connections import Connections
from bench.load.datagrams import Datagrams
from bench.load.requests import Requests
from tests.bench.peers import closed_port, tcp_server, udp_server

if TYPE_CHECKING:
    from bench.load.generator import Generator

SHORT = 0.15


def run_shortly(load: Generator) -> None:
    load.run(perf_counter() + SHORT)


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def test_bulk_up_counts_the_bytes_that_the_other_side_receives() -> None:
    received = []

    def count(sock: socket.socket) -> None:
        while data := sock.recv(1 << 20):
            received.append(len(data))

    with tcp_server(count) as address, closing(Up(address, connections=2)) as load:
        run_shortly(load)
        counted = load.result(SHORT).units

    assert counted == sum(received) > 1_000_000


def test_bulk_down_counts_the_bytes_that_the_other_side_sent() -> None:
    with tcp_server(lambda sock: sock.sendall(bytes(5_000_000))) as address, closing(Down(address)) as load:
        with pytest.raises(ConnectionResetError, match="the stream ended"):
            load.run(perf_counter() + 5)
        assert load.result(1).units == 5_000_000


@pytest.mark.parametrize("size", [1, 64, 3_000_000])
def test_requests_are_counted_when_their_whole_answer_is_there(size: int) -> None:
    echoed = []

    def count(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            echoed.append(len(data))
            sock.sendall(data)

    with tcp_server(count) as address, closing(Requests(address, connections=2, size=size)) as load:
        run_shortly(load)
        units = load.result(SHORT).units

    assert 0 < units * size <= sum(echoed) < (units + 3) * size


def test_latencies_are_those_of_the_other_side() -> None:
    def echo_late(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            time.sleep(0.02)
            sock.sendall(data)

    with tcp_server(echo_late) as address, closing(Requests(address, connections=1)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert 20_000 <= found.p50 <= found.p99 < 100_000


def test_what_the_warm_up_counted_is_forgotten() -> None:
    with tcp_server(echo) as address, closing(Requests(address, connections=1)) as load:
        run_shortly(load)
        load.reset()
        assert load.result(SHORT).units == 0


def test_each_new_connection_is_one_that_was_accepted() -> None:
    accepted = []

    def count(sock: socket.socket) -> None:
        accepted.append(sock.fileno())
        echo(sock)

    with tcp_server(count) as address, closing(Connections(address, connections=3)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.failed == 0
    assert 0 < found.units <= len(accepted) <= found.units + 3


def test_refused_connections_are_failures_with_their_reason() -> None:
    with closing(Connections(closed_port(), connections=2)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.units == 0
    assert found.failed > 0
    assert found.error == "Connection refused"


def test_connections_that_end_without_an_answer_are_failures() -> None:
    with tcp_server(lambda sock: sock.shutdown(socket.SHUT_WR)) as address, closing(Connections(address, connections=1)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.units == 0
    assert found.failed > 0


def test_datagrams_that_do_not_come_back_are_lost_and_the_flow_goes_on() -> None:
    seen = 0

    def answer_every_second(datagram: bytes) -> list[bytes]:
        nonlocal seen
        seen += 1
        return [datagram] if seen % 2 else []

    with udp_server(answer_every_second) as address, closing(Datagrams(address, connections=1)) as load:
        load.run(perf_counter() + 0.7)
        found = load.result(0.7)

    assert found.failed >= 2
    assert found.units in {found.failed, found.failed + 1}


def test_answers_that_come_twice_count_once() -> None:
    answered = []

    def answer_twice(datagram: bytes) -> list[bytes]:
        answered.append(datagram)
        return [datagram, datagram]

    with udp_server(answer_twice) as address, closing(Datagrams(address, connections=1)) as load:
        run_shortly(load)
        units = load.result(SHORT).units

    assert len(answered) - 1 <= units <= len(answered)
