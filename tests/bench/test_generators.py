"""Each load generator over lasting connections counts what really went over them, no more and no less."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from bench.load import bulk
from bench.load.generator import Latencies
from bench.load.paced import Paced
from bench.load.requests import Requests
from bench.load.ticker import Ticker
from tests.bench.peers import echo, tcp_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.load.bulk import Bulk
    from bench.load.generator import Generator

SHORT = 0.15
HOSTS = ("127.0.0.1", "::1")


def run_shortly(load: Generator) -> None:
    load.run(perf_counter() + SHORT)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 1, 1)), (2, (1, 2, 2)), (100, (50, 99, 100)), (101, (51, 100, 101)), (1000, (500, 990, 999)), (2000, (1000, 1980, 1998))],
)
def test_a_quantile_is_the_smallest_latency_that_its_share_does_not_exceed(count: int, expected: tuple[int, int, int]) -> None:
    latencies = Latencies()
    for microseconds in range(count, 0, -1):
        latencies.add(microseconds * 1000)

    assert latencies.quantiles() == expected
    assert len(latencies) == count


def test_without_a_latency_there_is_no_quantile() -> None:
    assert Latencies().quantiles() == (0, 0, 0)


@pytest.mark.parametrize("host", HOSTS)
def test_bulk_up_counts_the_bytes_that_the_other_side_receives(host: str) -> None:
    received = []

    def count(sock: socket.socket) -> None:
        while data := sock.recv(1 << 20):
            received.append(len(data))

    with tcp_server(count, host) as address, closing(bulk.up(address, connections=2)) as load:
        run_shortly(load)
        counted = load.result(SHORT).units

    assert counted == sum(received) > 1_000_000


@pytest.mark.parametrize("host", HOSTS)
def test_bulk_down_counts_the_bytes_that_the_other_side_sent(host: str) -> None:
    with tcp_server(lambda sock: sock.sendall(bytes(5_000_000)), host) as address, closing(bulk.down(address)) as load:
        with pytest.raises(ConnectionResetError, match="the stream ended"):
            load.run(perf_counter() + 5)
        assert load.result(1).units == 5_000_000


def test_bulk_both_ways_counts_each_direction_of_the_same_connections() -> None:
    connections, received = [], []

    def send_and_count(sock: socket.socket) -> None:
        connections.append(sock.fileno())
        sock.sendall(bytes(5_000_000))
        while data := sock.recv(1 << 20):
            received.append(len(data))

    with tcp_server(send_and_count) as address, closing(bulk.both(address, connections=2)) as load:
        run_shortly(load)
        found = load.result(1.0)

    assert len(connections) == 2
    assert found.extra == {"down": 2 * 5_000_000 * 8 / 1e9, "up": sum(received) * 8 / 1e9}
    assert found.units == sum(received) + 2 * 5_000_000


@pytest.mark.parametrize("start", [bulk.down, bulk.both])
def test_bulk_without_a_byte_is_a_failure(start: Callable[..., Bulk]) -> None:
    with tcp_server(lambda _sock: time.sleep(3 * SHORT)) as address, closing(start(address, connections=3)) as load:
        run_shortly(load)
        load.reset()
        run_shortly(load)
        found = load.result(SHORT)

    assert (found.units, found.failed, found.error) == (0, 3, "no byte moved")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("size", [1, 64, 3_000_000])
def test_requests_are_counted_when_their_whole_answer_is_there(size: int, host: str) -> None:
    echoed = []

    def count(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            echoed.append(len(data))
            sock.sendall(data)

    with tcp_server(count, host) as address, closing(Requests(address, connections=2, size=size)) as load:
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

    assert 20_000 <= found.p50 <= found.p99 <= found.p999 < 100_000


def test_what_the_warm_up_counted_is_forgotten() -> None:
    with tcp_server(echo) as address, closing(Requests(address, connections=1)) as load:
        run_shortly(load)
        load.reset()
        assert load.result(SHORT).units == 0


def test_a_connection_whose_answer_does_not_come_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.requests.STUCK_NS", 50_000_000)
    served = []

    def echo_to_the_first(sock: socket.socket) -> None:
        served.append(sock)
        while data := sock.recv(65536):
            if sock is served[0]:
                sock.sendall(data)

    with tcp_server(echo_to_the_first) as address, closing(Requests(address, connections=3)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.units > 0
    assert found.failed == 2
    assert found.error.startswith("no answer")


def test_a_ticker_has_ticked_as_often_as_its_period_has_passed() -> None:
    ticker = Ticker(1_000_000)
    with closing(ticker):
        start = time.perf_counter_ns() + 1_000_000
        ticker.start(start)
        time.sleep(0.05)
        ticks = ticker.ticks()
        passed = (time.perf_counter_ns() - start) / 1_000_000
        ticker.stop()
        time.sleep(0.01)

        assert 49 <= ticks <= passed + 1
        with pytest.raises(BlockingIOError):
            ticker.ticks()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("rate", [200, 3000])
def test_paced_requests_are_as_many_as_the_rate_asks_for(rate: int, host: str) -> None:
    with tcp_server(echo, host) as address, closing(Paced(address, connections=4, rate=rate)) as load:
        load.run(perf_counter() + 0.1)
        load.reset()
        start = perf_counter()
        load.run(start + 0.4)
        seconds = perf_counter() - start
        found = load.result(seconds)

    # What was under way when the warm-up ended, or became due while the result was asked for, is counted as well.
    assert 0.95 * rate * seconds - 2 <= found.units <= 1.1 * rate * seconds + 5
    assert found.failed == 0


def test_a_pause_of_the_other_side_is_in_the_latencies_of_all_requests_that_were_due_meanwhile() -> None:
    def pause_once(sock: socket.socket) -> None:
        sock.recv(65536, socket.MSG_PEEK)
        time.sleep(0.2)
        echo(sock)

    with tcp_server(pause_once) as address, closing(Paced(address, connections=1, rate=1000)) as load:
        load.run(perf_counter() + 0.3)
        found = load.result(0.3)

    # A closed loop would have had one request of 200 ms. Here 200 were due in the pause, the median one 50 ms or more before its end.
    assert found.units >= 290
    assert found.p50 > 40_000
    assert found.p99 > 150_000


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_paced_requests_that_the_connection_does_not_take_at_once_wait_and_are_answered(size: int) -> None:
    with tcp_server(echo) as address, closing(Paced(address, connections=1, size=size, rate=50)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.units + found.failed >= 6
    assert found.units > 0


def test_paced_requests_without_an_answer_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.paced.STUCK_NS", 50_000_000)

    def listen(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    with tcp_server(listen) as address, closing(Paced(address, connections=2, rate=200)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.units == 0
    assert found.failed >= 28
    assert found.error.startswith("no answer")
