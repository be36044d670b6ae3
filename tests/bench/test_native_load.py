"""The native generators count and name what happened exactly as those in Python do: the other side is the same, and knows."""

from __future__ import annotations

import socket
import time

import pytest

from tests.bench.loads import BOTH, NATIVE, load, measured
from tests.bench.peers import Dropping, closed_port, echo, tcp_server, udp_server

HOSTS = ("127.0.0.1", "::1")
UDP_KINDS = ("datagrams", "queries")

implementations = pytest.mark.parametrize("implementation", BOTH)
hosts = pytest.mark.parametrize("host", HOSTS)


@hosts
@pytest.mark.parametrize("size", [1, 64, 300_000])
def test_requests_are_counted_when_their_whole_answer_is_there(size: int, host: str) -> None:
    echoed = []

    def count(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            echoed.append(len(data))
            sock.sendall(data)

    with tcp_server(count, host) as address:
        found = measured(load(NATIVE, "requests", address, "--connections", "3", "--size", str(size)))

    # Each connection may have had an answer under way, and one more request.
    assert 0 < found.units * size <= sum(echoed) < (found.units + 7) * size
    assert (found.failed, found.error) == (0, "")


@hosts
@pytest.mark.parametrize("size", [64, 200_000])
def test_each_connection_is_one_that_was_accepted(size: int, host: str) -> None:
    accepted = []

    def count(sock: socket.socket) -> None:
        accepted.append(sock.fileno())
        echo(sock)

    with tcp_server(count, host) as address:
        found = measured(load(NATIVE, "connections", address, "--connections", "3", "--size", str(size)))

    assert (found.failed, found.error) == (0, "")
    assert found.units <= len(accepted) <= found.units + 3
    # Three every 50 ms would be those that only replace what failed.
    assert found.units > 15


@hosts
def test_a_connection_that_the_server_closes_is_counted_when_it_has_ended(host: str) -> None:
    ended: list[int] = []

    def answer_once(sock: socket.socket) -> None:
        sock.sendall(sock.recv(65536))
        time.sleep(0.02)
        ended.append(sock.fileno())
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    with tcp_server(answer_once, host) as address:
        found = measured(load(NATIVE, "connections-until-end", address, "--connections", "2"))

    assert (found.failed, found.error) == (0, "")
    assert 0 < found.units <= len(ended) <= found.units + 2
    assert found.p50 >= 20_000


@hosts
@pytest.mark.parametrize("kind", UDP_KINDS)
@pytest.mark.parametrize("size", [1, 64, 1400, 8000])
def test_round_trips_are_datagrams_that_the_other_side_answered(size: int, kind: str, host: str) -> None:
    sizes, ports = [], list[int]()

    def answer(datagram: bytes) -> list[bytes]:
        sizes.append(len(datagram))
        return [datagram]

    with udp_server(answer, host, ports) as address:
        found = measured(load(NATIVE, kind, address, "--connections", "3", "--size", str(size)))

    assert (found.failed, found.lost, found.error) == (0, 0, "")
    assert 0 < found.units <= len(sizes) <= found.units + 3
    assert set(sizes) == {max(size, 8)}
    assert len(set(ports)) == 3 if kind == "datagrams" else len(set(ports)) > 3


@implementations
@pytest.mark.parametrize("kind", UDP_KINDS)
def test_every_datagram_that_the_other_side_drops_is_lost_and_no_other(kind: str, implementation: str) -> None:
    other_side = Dropping()

    with udp_server(other_side) as address:
        found = measured(load(implementation, kind, address, seconds=0.9))

    assert found.lost >= 2
    # The last one that was dropped may not have been missed yet, and the last one of all may be on its way.
    assert other_side.dropped - 1 <= found.lost <= other_side.dropped
    assert found.units <= 9 * other_side.dropped + other_side.seen % 10 <= found.units + 1
    assert (found.failed, found.error) == (0, "")
    assert found.p999 < 200_000


@implementations
def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(implementation: str) -> None:
    seen: list[bytes] = []

    def answer_the_one_before(datagram: bytes) -> list[bytes]:
        seen.append(datagram)
        return seen[-2:-1]

    with udp_server(answer_the_one_before) as address:
        found = measured(load(implementation, "datagrams", address, seconds=0.7))

    assert (found.units, found.failed, found.error) == (0, 1, "no datagram came back")
    assert len(seen) - 1 <= found.lost <= len(seen)
    assert found.lost >= 2


def test_answers_that_come_twice_count_once() -> None:
    answered = []

    def answer_twice(datagram: bytes) -> list[bytes]:
        answered.append(datagram)
        return [datagram, datagram]

    with udp_server(answer_twice) as address:
        found = measured(load(NATIVE, "datagrams", address))

    assert len(answered) - 1 <= found.units <= len(answered)


@implementations
def test_an_answer_that_was_cut_off_does_not_count(implementation: str) -> None:
    with udp_server(lambda datagram: [datagram[:100]]) as address:
        found = measured(load(implementation, "datagrams", address, "--connections", "2", "--size", "1400"))

    assert (found.units, found.failed, found.error) == (0, 2, "no datagram came back")


@implementations
@pytest.mark.parametrize("kind", ["connections", "connections-until-end", *UDP_KINDS])
def test_what_is_refused_has_failed_with_its_reason(kind: str, implementation: str) -> None:
    found = measured(load(implementation, kind, closed_port(), "--connections", "2"))

    assert (found.units, found.lost, found.error) == (0, 0, "Connection refused")
    assert found.failed > 2
    assert (found.p50, found.p99, found.p999) == (0, 0, 0)


@implementations
def test_connections_that_end_without_an_answer_have_failed(implementation: str) -> None:
    def end(sock: socket.socket) -> None:
        sock.recv(100)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(100)

    with tcp_server(end) as address:
        found = measured(load(implementation, "connections", address))

    assert (found.units, found.error) == (0, "ended without an answer")
    assert found.failed > 0


@implementations
def test_more_than_the_answer_is_a_failure_where_the_server_is_to_close(implementation: str) -> None:
    def say_too_much(sock: socket.socket) -> None:
        sock.sendall(sock.recv(100))
        time.sleep(0.01)
        sock.sendall(b"and more")
        sock.recv(100)

    with tcp_server(say_too_much) as address:
        found = measured(load(implementation, "connections-until-end", address))

    assert (found.units, found.error) == (0, "more than the answer came")
    assert found.failed > 0


@implementations
@pytest.mark.parametrize("kind", ["requests", "connections"])
def test_what_is_not_answered_within_a_second_has_failed(kind: str, implementation: str) -> None:
    def say_nothing(sock: socket.socket) -> None:
        while sock.recv(100):
            pass

    with tcp_server(say_nothing) as address:
        found = measured(load(implementation, kind, address, "--connections", "3", seconds=1.2))

    assert (found.units, found.failed, found.error) == (0, 3, "no answer within 1 s")


def test_the_quantiles_are_those_of_the_answers() -> None:
    """Of 20 answers 18 come at once, one after 20 ms and one after 60 ms: the median is short, the rest is not."""
    delays = [0.0] * 18 + [0.02, 0.06]
    found = {}

    for implementation in BOTH:
        turn = iter(delays * 1000)

        def answer(sock: socket.socket, turn: object = turn) -> None:
            assert hasattr(turn, "__next__")
            while data := sock.recv(65536):
                time.sleep(next(turn))
                sock.sendall(data)

        with tcp_server(answer) as address:
            found[implementation] = measured(load(implementation, "requests", address, seconds=1.0))

    for result in found.values():
        assert result.units > 100
        assert 0 < result.p50 < 20_000
        assert 60_000 <= result.p99 <= result.p999 < 300_000


def test_what_the_warm_up_counted_is_forgotten() -> None:
    delays = iter([0.05, 0.05] + [0.0] * 1_000_000)

    def slow_at_first(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            time.sleep(next(delays))
            sock.sendall(data)

    with tcp_server(slow_at_first) as address:
        found = measured(load(NATIVE, "requests", address, "--warm-up", "0.3"))

    assert found.units > 10
    assert found.p999 < 50_000


@implementations
def test_a_target_that_refuses_is_one_line_and_exit_code_1(implementation: str) -> None:
    host, port = closed_port()

    done = load(implementation, "requests", (host, port))

    assert done.returncode == 1
    assert done.stderr == f"requests {host}:{port}: [Errno 111] Connection refused\n"
    assert done.stdout == ""


@implementations
def test_a_connection_that_breaks_is_one_line_and_exit_code_1(implementation: str) -> None:
    def answer_once(sock: socket.socket) -> None:
        sock.sendall(sock.recv(100))
        sock.recv(100)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(100)

    with tcp_server(answer_once) as (host, port):
        done = load(implementation, "requests", (host, port))

    assert done.returncode == 1
    assert done.stderr == f"requests {host}:{port}: the connection ended\n"


def test_a_host_that_does_not_exist_is_one_line_and_exit_code_1() -> None:
    done = load(NATIVE, "requests", ("256.1.1.1", 80))

    assert done.returncode == 1
    assert done.stderr.startswith("requests 256.1.1.1:80: ")
    assert done.stderr.count("\n") == 1
