"""Each load generator that opens connections counts those that were served, and tells why others were not."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from time import perf_counter

import pytest

from bench.load.connections import Connections
from bench.load.idle import Idle
from bench.load.storm import Storm
from tests.bench.peers import closed_port, echo, tcp_server
from tests.bench.test_generators import HOSTS, SHORT, run_shortly


def answer_and_close(sock: socket.socket) -> None:
    sock.sendall(sock.recv(65536))


def never_answer(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


@pytest.mark.parametrize("host", HOSTS)
def test_each_new_connection_is_one_that_was_accepted(host: str) -> None:
    accepted = []

    def count(sock: socket.socket) -> None:
        accepted.append(sock.fileno())
        echo(sock)

    with tcp_server(count, host) as address, closing(Connections(address, connections=3)) as load:
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
    assert found.error == "ended without an answer"


def test_connections_without_an_answer_are_failures_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.connections.STUCK_NS", 50_000_000)
    with tcp_server(never_answer) as address, closing(Connections(address, connections=4)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert (found.units, found.failed) == (0, 4)
    assert found.error.startswith("no answer")


@pytest.mark.parametrize("host", HOSTS)
def test_a_connection_that_the_server_ends_counts_when_it_has_ended(host: str) -> None:
    lasted = []

    def answer_and_wait(sock: socket.socket) -> None:
        sock.sendall(sock.recv(65536))
        time.sleep(0.02)
        lasted.append(sock.fileno())

    with tcp_server(answer_and_wait, host) as address, closing(Connections(address, connections=2, until_end=True)) as load:
        run_shortly(load)
        found = load.result(SHORT)
        ended = len(lasted)

    assert found.failed == 0
    assert 0 < found.units <= ended <= found.units + 2
    assert found.p50 >= 20_000


def test_an_end_that_comes_with_the_answer_is_seen() -> None:
    with tcp_server(answer_and_close) as address, closing(Connections(address, connections=2, until_end=True)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.failed == 0
    assert found.units > 2


def test_a_connection_that_nobody_ends_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.connections.STUCK_NS", 50_000_000)
    with tcp_server(echo) as address, closing(Connections(address, connections=2, until_end=True)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert (found.units, found.failed) == (0, 2)


@pytest.mark.parametrize("host", HOSTS)
def test_a_storm_is_over_when_all_have_been_answered_and_holds_them_until_then(host: str) -> None:
    together = threading.Barrier(30)

    def answer_when_all_are_there(sock: socket.socket) -> None:
        data = sock.recv(65536)
        together.wait(10)
        time.sleep(0.02)
        sock.sendall(data)
        never_answer(sock)

    with tcp_server(answer_when_all_are_there, host) as address, closing(Storm(address, connections=30)) as load:
        load.run(0.0)
        load.reset()
        load.run(0.0)
        found = load.result(SHORT)

    assert (found.units, found.failed) == (30, 0)
    assert 20_000 <= found.p50 <= found.p999 <= 1000 * found.extra["all"]
    assert found.extra["all"] == found.extra["worst"]


def test_storms_tell_their_median_and_the_worst() -> None:
    slow = iter([0.0, 0.3, 0.0])

    def echo_slowly(sock: socket.socket) -> None:
        data = sock.recv(65536)
        time.sleep(next(slow))
        sock.sendall(data)

    with tcp_server(echo_slowly) as address, closing(Storm(address, connections=1)) as load:
        for _ in range(3):
            load.run(0.0)
        found = load.result(SHORT)

    assert found.units == 3
    assert found.extra["worst"] >= 300
    assert found.extra["all"] < 300


def test_connections_of_a_storm_that_are_not_answered_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.storm.STORM_SECONDS", 0.3)
    answered = iter(range(10))

    def answer_ten(sock: socket.socket) -> None:
        if next(answered, None) is None:
            never_answer(sock)
        else:
            echo(sock)

    with tcp_server(answer_ten) as address, closing(Storm(address, connections=15)) as load:
        load.run(0.0)
        found = load.result(SHORT)

    assert (found.units, found.failed) == (10, 5)
    assert found.error.startswith("no answer")
    assert found.extra["all"] >= 300


@pytest.mark.parametrize("host", HOSTS)
def test_idle_connections_are_all_open_at_once_and_silent(host: str) -> None:
    requests = []

    def note(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            requests.append(data)
            sock.sendall(data)

    with tcp_server(note, host) as address:
        before = threading.active_count()
        with closing(Idle(address, connections=100)) as load:
            run_shortly(load)
            load.reset()
            run_shortly(load)
            found = load.result(SHORT)
            serving = threading.active_count() - before

    assert (found.units, found.failed, serving) == (100, 0, 100)
    assert len(requests) == 100


def test_idle_connections_that_break_meanwhile_are_failures() -> None:
    leave = threading.Event()
    served: list[socket.socket] = []

    def leave_three(sock: socket.socket) -> None:
        served.append(sock)
        sock.sendall(sock.recv(65536))
        leave.wait(10)
        if sock not in served[:3]:
            never_answer(sock)

    with tcp_server(leave_three) as address, closing(Idle(address, connections=10)) as load:
        leave.set()
        run_shortly(load)
        found = load.result(SHORT)

    assert (found.units, found.failed, found.error) == (7, 3, "the connection ended")


def test_idle_connections_that_are_never_answered_are_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.idle.PATIENCE_SECONDS", 0.2)
    answered = iter(range(20))

    def answer_twenty(sock: socket.socket) -> None:
        if next(answered, None) is None:
            never_answer(sock)
        else:
            echo(sock)

    began = perf_counter()
    with tcp_server(answer_twenty) as address, closing(Idle(address, connections=200)) as load:
        found = load.result(SHORT)
        lasted = perf_counter() - began

    assert (found.units, found.failed) == (20, 180)
    assert lasted < 10


def test_idle_connections_that_are_refused_are_failures() -> None:
    with closing(Idle(closed_port(), connections=100)) as load:
        found = load.result(SHORT)

    assert (found.units, found.failed, found.error) == (0, 100, "Connection refused")
