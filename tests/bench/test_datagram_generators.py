"""Each load generator of datagrams counts exactly what arrived and what did not."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from bench.load.datagrams import Datagrams
from bench.load.flood import Flood, arrived
from bench.load.queries import Queries
from bench.load.server import COUNTS, DISCARD
from tests.bench.peers import Dropping, closed_port, tcp_server, udp_server
from tests.bench.test_generators import HOSTS, SHORT, run_shortly

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = "127.99.0.3"
"""An address of its own: the ports are the same everywhere."""


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """Run the load's server."""
    command = [sys.executable, "-m", "bench.load.server", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("size", [1, 64, 1400, 8000])
def test_round_trips_are_datagrams_that_the_other_side_answered(size: int, host: str) -> None:
    sizes = []

    def answer(datagram: bytes) -> list[bytes]:
        sizes.append(len(datagram))
        return [datagram]

    with udp_server(answer, host) as address, closing(Datagrams(address, connections=3, size=size)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert (found.failed, found.lost) == (0, 0)
    assert 0 < found.units <= len(sizes) <= found.units + 3
    assert set(sizes) == {max(size, 8)}


def test_datagrams_that_do_not_come_back_are_lost_and_the_flow_goes_on() -> None:
    other_side = Dropping()

    with udp_server(other_side) as address, closing(Datagrams(address, connections=1)) as load:
        load.run(perf_counter() + 0.9)
        found = load.result(0.9)

    assert found.lost >= 2
    # The last one that was dropped may not have been missed yet.
    assert other_side.dropped - 1 <= found.lost <= other_side.dropped
    assert found.units == 9 * other_side.dropped + other_side.seen % 10
    assert (found.failed, found.error) == (0, "")


def test_the_wait_for_a_lost_datagram_is_in_no_latency() -> None:
    with udp_server(Dropping()) as address, closing(Datagrams(address, connections=1)) as load:
        load.run(perf_counter() + 0.5)
        assert load.result(0.5).p999 < 200_000


def test_answers_that_come_twice_count_once() -> None:
    answered = []

    def answer_twice(datagram: bytes) -> list[bytes]:
        answered.append(datagram)
        return [datagram, datagram]

    with udp_server(answer_twice) as address, closing(Datagrams(address, connections=1)) as load:
        run_shortly(load)
        units = load.result(SHORT).units

    assert len(answered) - 1 <= units <= len(answered)


def test_an_answer_that_was_cut_off_does_not_count() -> None:
    with udp_server(lambda datagram: [datagram[:100]]) as address, closing(Datagrams(address, connections=2, size=1400)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert (found.units, found.failed, found.error) == (0, 2, "no datagram came back")


def test_refused_datagrams_are_failures_with_their_reason() -> None:
    with closing(Datagrams(closed_port(), connections=2)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.lost == 0
    assert found.failed > 2
    assert found.error == "Connection refused"


@pytest.mark.parametrize("host", HOSTS)
def test_each_query_comes_from_a_new_port_and_is_answered_once(host: str) -> None:
    ports: list[int] = []

    with udp_server(lambda datagram: [datagram], host, ports) as address, closing(Queries(address, connections=3)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert (found.failed, found.lost) == (0, 0)
    assert 0 < found.units <= len(ports) <= found.units + 3
    assert all(one != other for one, other in pairwise(ports))
    assert len(set(ports)) > 0.9 * len(ports)


def test_queries_that_are_not_answered_are_lost_and_the_next_ones_are_asked() -> None:
    other_side = Dropping()

    with udp_server(other_side) as address, closing(Queries(address, connections=1)) as load:
        load.run(perf_counter() + 0.9)
        found = load.result(0.9)

    assert found.lost >= 2
    assert other_side.dropped - 1 <= found.lost <= other_side.dropped
    assert found.units == 9 * other_side.dropped + other_side.seen % 10


def test_refused_queries_are_failures_with_their_reason() -> None:
    with closing(Queries(closed_port(), connections=2)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert (found.units, found.lost) == (0, 0)
    assert found.failed > 2
    assert found.error == "Connection refused"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("size", [64, 8000])
def test_a_flood_arrives_at_the_rate_that_is_offered(size: int) -> None:
    with closing(Flood((SERVER, DISCARD), connections=2, size=size, rate=2000)) as load:
        run_shortly(load)
        load.reset()
        start = perf_counter()
        load.run(start + 0.4)
        seconds = perf_counter() - start
        found = load.result(seconds)

    assert found.lost == 0
    assert found.units == pytest.approx(found.extra["offered"] * 1000 * seconds)
    assert 0.3 * 2000 * seconds < found.units <= 2000 * seconds + 1


@pytest.mark.usefixtures("server")
def test_what_a_flood_loses_on_its_way_is_counted_exactly() -> None:
    way = Dropping()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as onwards:
        onwards.connect((SERVER, DISCARD))

        def relay(datagram: bytes) -> list[bytes]:
            for kept in way(datagram):
                onwards.send(kept)
            return []

        with udp_server(relay) as address, closing(Flood(address, connections=3, rate=1000, server=SERVER)) as load:
            run_shortly(load)
            load.reset()
            dropped_before, seen_before = way.dropped, way.seen
            run_shortly(load)
            found = load.result(SHORT)

    assert found.lost == way.dropped - dropped_before > 5
    assert found.units == way.seen - seen_before - found.lost


@pytest.mark.usefixtures("server")
def test_a_flood_of_which_nothing_arrives_has_failed() -> None:
    with closing(Flood(("127.99.0.4", 9), connections=2, rate=1000, server=SERVER)) as load:
        run_shortly(load)
        found = load.result(SHORT)

    assert found.units == 0
    assert found.failed >= 2
    assert found.error == "Connection refused"


def test_a_server_that_does_not_tell_what_arrived_is_an_error() -> None:
    with tcp_server(lambda sock: sock.sendall(b"hello\n")) as address, pytest.raises(ConnectionResetError, match="does not tell"):
        arrived(address)


@pytest.mark.usefixtures("server")
def test_the_server_tells_how_many_datagrams_it_has_discarded() -> None:
    before = arrived((SERVER, COUNTS))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for size in (0, 1, 9000):
            sock.sendto(bytes(size), (SERVER, DISCARD))

    assert arrived((SERVER, COUNTS)) == before + 3
