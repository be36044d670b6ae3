"""Load over UDP: every datagram is answered, refused or lost."""

from __future__ import annotations

import pytest

from tests.bench.live.servers import SIZE, all_due, assert_never_faster, load, nowhere, udp_server

Capture = pytest.CaptureFixture[str]
RATE = ("--rate", "200", "--duration", "500ms")
ALL = 100


def echo(_number: int, datagram: bytes) -> list[bytes]:
    return [datagram]


def silence(_number: int, _datagram: bytes) -> list[bytes]:
    return []


def test_every_datagram_is_sent_once_and_answered(capsys: Capture) -> None:
    with udp_server(echo) as server:
        code, found = load(capsys, "udp", server.address, *RATE, "--timeout", "5s")

    assert code == 0
    assert all_due(found) == ALL
    assert found.sent == found.answered == len(server.arrivals)
    assert found.opened == server.connections <= 10
    assert found.bytes_sent == found.bytes_received == server.received == SIZE * found.sent
    assert_never_faster(server.arrivals, 200)


def test_what_the_target_drops_is_lost_and_counted_exactly(capsys: Capture) -> None:
    dropped = []

    def drop_every_tenth(number: int, datagram: bytes) -> list[bytes]:
        if number % 10:
            return [datagram]
        dropped.append(number)
        return []

    with udp_server(drop_every_tenth) as server:
        code, found = load(capsys, "udp", server.address, *RATE, "--timeout", "1s", "--connections", "20")

    assert code == 1
    assert found.lost == len(dropped) >= 5
    assert found.answered == len(server.arrivals) - len(dropped)
    assert found.failed == 0
    assert all_due(found) == ALL


def test_refused_datagrams_are_failures_and_not_lost(capsys: Capture) -> None:
    code, found = load(capsys, "udp", nowhere(), *RATE)

    assert code == 1
    assert (found.answered, found.lost) == (0, 0)
    assert found.reasons == {"connection refused": found.sent}


def test_an_answer_that_comes_twice_counts_once(capsys: Capture) -> None:
    with udp_server(lambda _number, datagram: [datagram, datagram]) as server:
        code, found = load(capsys, "udp", server.address, *RATE, "--connections", "1", "--timeout", "5s")

    assert code == 0
    assert found.answered == len(server.arrivals)
    assert found.answered - 1 <= found.stray <= found.answered


@pytest.mark.parametrize("expect", ["echo", "any"])
def test_an_answer_that_comes_too_late_is_taken_for_no_other(capsys: Capture, expect: str) -> None:
    flags = ("--rate", "5", "--duration", "1s", "--connections", "1", "--timeout", "50ms", "--expect", expect)
    with udp_server(echo, delay=0.1) as server:
        code, found = load(capsys, "udp", server.address, *flags)

    assert code == 1
    assert (found.answered, found.lost) == (0, len(server.arrivals))
    assert found.stray >= 1


def test_other_bytes_than_were_sent_are_no_echo_but_they_are_any_answer(capsys: Capture) -> None:
    with udp_server(lambda _number, _datagram: [b"ok"]) as server:
        code, found = load(capsys, "udp", server.address, "--rate", "50", "--duration", "200ms", "--timeout", "100ms")
        any_code, any_found = load(capsys, "udp", server.address, *RATE, "--expect", "any", "--timeout", "5s")

    assert (code, found.answered, found.lost) == (1, 0, found.sent)
    assert found.stray == found.sent > 0
    assert (any_code, any_found.answered) == (0, any_found.sent)


def test_nothing_is_waited_for_where_nothing_is_expected(capsys: Capture) -> None:
    with udp_server(silence) as server:
        code, found = load(capsys, "udp", server.address, *RATE, "--expect", "none")

    assert code == 0
    assert found.sent == found.answered == len(server.arrivals)


def test_a_refusal_is_noticed_even_where_nothing_is_expected(capsys: Capture) -> None:
    code, found = load(capsys, "udp", nowhere(), *RATE, "--expect", "none", "--connections", "1")

    assert code == 1
    assert found.reasons["connection refused"] >= found.sent // 2 - 1


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1400, 65_507])
def test_datagrams_of_any_size_come_back(capsys: Capture, size: int) -> None:
    with udp_server(echo) as server:
        code, found = load(capsys, "udp", server.address, "--rate", "50", "--duration", "200ms", "--size", str(size), "--timeout", "5s")

    assert code == 0
    assert found.bytes_received == server.received == size * found.answered > 0


def test_each_datagram_has_a_flow_of_its_own_where_that_is_asked_for(capsys: Capture) -> None:
    with udp_server(echo) as server:
        code, found = load(capsys, "udp", server.address, *RATE, "--new-connection", "--timeout", "5s")

    assert code == 0
    assert found.opened == found.answered
    assert server.connections > 10


def test_ipv6_addresses_are_reached(capsys: Capture) -> None:
    with udp_server(echo, host="::1") as server:
        code, found = load(capsys, "udp", server.address, *RATE, "--timeout", "5s")

    assert code == 0
    assert found.answered == len(server.arrivals) > 0
