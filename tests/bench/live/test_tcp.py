"""Load over TCP: what it counts is what the server saw, and never more than asked for."""

from __future__ import annotations

import asyncio
import socket
import struct
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from tests.bench.live.servers import SIZE, all_due, assert_never_faster, echo, load, nowhere, tcp_server

if TYPE_CHECKING:
    from bench.live.summary import Summary

Capture = pytest.CaptureFixture[str]
RATE = ("--rate", "200", "--duration", "500ms")
ALL = 100


def assert_all_failed(found: Summary, reason: str) -> None:
    assert found.answered == 0
    assert found.reasons == {reason: found.sent}


def test_every_unit_is_sent_once_and_answered(capsys: Capture) -> None:
    with tcp_server() as server:
        code, found = load(capsys, "tcp", server.address, *RATE)

    assert code == 0
    assert all_due(found) == ALL
    assert found.sent == found.answered == len(server.arrivals) > 0
    assert found.opened == server.connections <= found.connections == 10
    assert found.bytes_sent == found.bytes_received == server.received == SIZE * found.sent
    assert 0 < found.latency_us["p50"] <= found.latency_us["p99"] <= found.latency_us["p999"] <= found.latency_us["max"]
    assert sum(bar.values for bar in found.histogram) == found.answered


@pytest.mark.parametrize("rate", [20, 1000])
def test_the_rate_is_never_exceeded(capsys: Capture, rate: int) -> None:
    with tcp_server() as server:
        _code, found = load(capsys, "tcp", server.address, "--rate", str(rate), "--duration", "1s")

    assert_never_faster(server.arrivals, rate)
    assert found.rate_achieved <= rate


def test_a_target_that_stood_still_meets_no_flood_and_the_shortfall_is_told(capsys: Capture) -> None:
    async def pause_once(number: int, message: bytes, writer: asyncio.StreamWriter) -> None:
        if number in {20, 21}:
            await asyncio.sleep(0.5)
        await echo(number, message, writer)

    with tcp_server(pause_once) as server:
        code, found = load(capsys, "tcp", server.address, "--rate", "200", "--duration", "1s", "--connections", "2")

    assert code == 0
    assert all_due(found) == 200
    assert found.not_sent_busy >= 50
    assert found.sent == found.answered == len(server.arrivals)
    assert found.rate_achieved == found.sent
    assert_never_faster(server.arrivals, 200)


def test_no_more_are_under_way_than_there_are_connections_and_latencies_count_from_when_they_were_due(capsys: Capture) -> None:
    async def slowly(number: int, message: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.03)
        await echo(number, message, writer)

    with tcp_server(slowly) as server:
        code, found = load(capsys, "tcp", server.address, "--rate", "50", "--duration", "600ms", "--connections", "1")

    assert code == 0
    assert server.most == 1
    assert found.latency_us["min"] >= 30_000
    assert found.latency_us["max"] >= 80_000
    assert all_due(found) == 30


def test_refused_connections_are_counted_with_their_reason(capsys: Capture) -> None:
    code, found = load(capsys, "tcp", nowhere(), *RATE)

    assert code == 1
    assert found.opened == 0
    assert all_due(found) == ALL
    assert_all_failed(found, "connection refused")
    assert found.histogram == []


def test_resets_are_failures_and_the_next_unit_has_a_new_connection(capsys: Capture) -> None:
    resets = []

    async def reset_every_third(number: int, message: bytes, writer: asyncio.StreamWriter) -> None:
        if number % 3:
            await echo(number, message, writer)
            return
        resets.append(number)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    with tcp_server(reset_every_third) as server:
        code, found = load(capsys, "tcp", server.address, *RATE)

    assert code == 1
    assert found.reasons == {"connection reset": len(resets)}
    assert found.sent == len(server.arrivals)
    assert found.answered == len(server.arrivals) - len(resets)


def test_half_an_answer_and_an_end_is_a_failure(capsys: Capture) -> None:
    async def half(_number: int, message: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(message[: SIZE // 2])
        writer.close()

    with tcp_server(half) as server:
        code, found = load(capsys, "tcp", server.address, *RATE)

    assert code == 1
    assert found.sent == len(server.arrivals)
    assert_all_failed(found, "closed before the answer")


def test_a_connection_that_ends_after_its_answer_is_replaced_and_nothing_fails(capsys: Capture) -> None:
    async def once(number: int, message: bytes, writer: asyncio.StreamWriter) -> None:
        await echo(number, message, writer)
        writer.close()

    with tcp_server(once) as server:
        code, found = load(capsys, "tcp", server.address, "--rate", "50", "--duration", "500ms")

    assert code == 0
    assert found.answered == found.opened == server.connections == len(server.arrivals)


@pytest.mark.parametrize("answer", [b"x" * SIZE, b"\0" * (SIZE + 1)])
def test_other_bytes_than_were_sent_are_no_echo(capsys: Capture, answer: bytes) -> None:
    async def lie(_number: int, _message: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    with tcp_server(lie) as server:
        code, found = load(capsys, "tcp", server.address, *RATE)

    assert code == 1
    assert set(found.reasons) == {"not what was sent"}
    assert found.answered <= 1  # the number of the first unit is 0, like an answer of zeros


def test_any_bytes_are_an_answer_where_any_is_expected(capsys: Capture) -> None:
    async def shortly(_number: int, _message: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ok")

    with tcp_server(shortly) as server:
        code, found = load(capsys, "tcp", server.address, *RATE, "--expect", "any")

    assert code == 0
    assert found.answered == len(server.arrivals)
    assert found.bytes_received == 2 * found.answered


def test_nothing_is_waited_for_where_nothing_is_expected(capsys: Capture) -> None:
    async def ignore(_number: int, _message: bytes, _writer: asyncio.StreamWriter) -> None:
        return

    with tcp_server(ignore, size=1_000_000) as server:
        load_of = ("--rate", "20", "--duration", "500ms", "--size", "1000000")
        code, found = load(capsys, "tcp", server.address, *load_of, "--expect", "none")

    assert code == 0
    assert found.sent == found.answered
    assert found.bytes_sent == 1_000_000 * found.sent


def test_a_target_that_never_answers_holds_nothing_up_for_longer_than_the_timeout(capsys: Capture) -> None:
    async def ignore(_number: int, _message: bytes, _writer: asyncio.StreamWriter) -> None:
        return

    with tcp_server(ignore) as server:
        began = perf_counter()
        code, found = load(capsys, "tcp", server.address, *RATE, "--connections", "3", "--timeout", "300ms")
        took = perf_counter() - began

    assert code == 1
    assert_all_failed(found, "no answer in time")
    assert found.sent == len(server.arrivals)
    assert found.not_sent_busy > 50
    assert took < 0.5 + 0.3 + 2


def test_a_large_unit_goes_out_while_its_answer_comes_in(capsys: Capture) -> None:
    with tcp_server(size=1 << 16) as server:
        code, found = load(capsys, "tcp", server.address, "--rate", "4", "--duration", "500ms", "--size", str(1 << 20), "--timeout", "20s")

    assert code == 0
    assert found.bytes_received == server.received == found.answered << 20 > 0


def test_each_unit_has_a_connection_of_its_own_where_that_is_asked_for(capsys: Capture) -> None:
    with tcp_server() as server:
        code, found = load(capsys, "tcp", server.address, *RATE, "--new-connection")

    assert code == 0
    assert found.answered == found.opened == server.connections == len(server.arrivals)


def test_ipv6_addresses_are_reached(capsys: Capture) -> None:
    with tcp_server(host="::1") as server:
        code, found = load(capsys, "tcp", server.address, *RATE)

    assert server.address.startswith("[::1]:")
    assert code == 0
    assert found.addresses == ["::1"]
    assert found.answered == len(server.arrivals)


def test_of_a_names_addresses_the_one_that_takes_connections_is_used(capsys: Capture) -> None:
    with tcp_server() as server:
        code, found = load(capsys, "tcp", server.address.replace("127.0.0.1", "localhost"), *RATE)

    assert code == 0
    assert found.addresses == ["127.0.0.1"]
    assert found.failed == 0
