"""Load over HTTP: each unit is one request on the wire, and its status says whether it failed."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme
from aiohttp import web

from tests.bench.live.servers import all_due, assert_never_faster, http_server, load, nowhere, tcp_server

Capture = pytest.CaptureFixture[str]
RATE = ("--rate", "100", "--duration", "500ms")
ALL = 50


async def well(_number: int, _request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * 1000)


def test_every_request_is_made_once_and_answered(capsys: Capture) -> None:
    with http_server(well) as server:
        code, found = load(capsys, "http", server.address, *RATE)

    assert code == 0
    assert all_due(found) == ALL
    assert found.sent == found.answered == len(server.arrivals)
    assert found.statuses == {"2xx": found.sent}
    assert found.opened == server.connections <= 10
    assert (found.bytes_sent, found.bytes_received) == (0, 1000 * found.answered)
    assert_never_faster(server.arrivals, 100)


def test_a_status_of_400_or_more_is_a_failure_and_all_are_counted_by_class(capsys: Capture) -> None:
    statuses = (200, 500, 404, 302, 503)
    given = []

    async def each(number: int, _request: web.Request) -> web.StreamResponse:
        given.append(statuses[number % len(statuses)])
        return web.Response(status=given[-1], headers={"Location": "/"})

    with http_server(each) as server:
        code, found = load(capsys, "http", server.address, *RATE)

    of_class = {f"{first}xx": sum(status // 100 == first for status in given) for first in (2, 3, 4, 5)}
    assert code == 1
    assert found.statuses == of_class
    assert found.reasons == {f"status {name}": of_class[name] for name in ("4xx", "5xx")}
    assert found.answered == of_class["2xx"] + of_class["3xx"]


def test_a_request_whose_connection_ends_is_not_made_again(capsys: Capture) -> None:
    async def hang_up(number: int, request: web.Request) -> web.StreamResponse:
        if number % 2 and request.transport:
            request.transport.abort()
        return web.Response()

    with http_server(hang_up) as server:
        code, found = load(capsys, "http", server.address, *RATE, "--connections", "2")

    assert code == 1
    assert found.sent == len(server.arrivals)
    assert found.failed == len(server.arrivals) // 2
    assert set(found.reasons) <= {"closed before the answer", "connection reset"}


def test_an_answer_that_breaks_off_is_a_failure(capsys: Capture) -> None:
    async def half(_number: int, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"x" * 500)
        if request.transport:
            request.transport.close()
        return answer

    with http_server(half) as server:
        code, found = load(capsys, "http", server.address, *RATE)

    assert code == 1
    assert found.reasons == {"closed within the answer": found.sent}


def test_a_body_makes_it_a_post(capsys: Capture) -> None:
    methods = set()

    async def note(_number: int, request: web.Request) -> web.StreamResponse:
        methods.add(request.method)
        return web.Response()

    with http_server(note) as server:
        code, found = load(capsys, "http", server.address, *RATE, "--size", "3000")

    assert code == 0
    assert methods == {"POST"}
    assert found.bytes_sent == server.received == 3000 * found.answered


def test_each_request_has_a_connection_of_its_own_where_that_is_asked_for(capsys: Capture) -> None:
    with http_server(well) as server:
        code, found = load(capsys, "http", server.address, *RATE, "--new-connection")

    assert code == 0
    assert found.opened == found.answered == len(server.arrivals)


def test_refused_connections_are_counted_with_their_reason(capsys: Capture) -> None:
    code, found = load(capsys, "http", f"http://{nowhere()}/", *RATE)

    assert code == 1
    assert found.reasons == {"connection refused": found.sent}


def test_what_is_not_http_is_said_to_be_so(capsys: Capture) -> None:
    async def babble(_number: int, _message: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")

    with tcp_server(babble, size=16) as server:
        code, found = load(capsys, "http", f"http://{server.address}/", *RATE)

    assert code == 1
    assert found.reasons == {"not HTTP": found.sent}


def test_certificates_are_verified_unless_told_otherwise(capsys: Capture) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with http_server(well, tls) as server:
        code, found = load(capsys, "http", server.address, *RATE)
        insecure_code, insecure = load(capsys, "http", server.address, *RATE, "--insecure")

    assert (code, found.answered) == (1, 0)
    assert found.reasons == {"certificate not valid": found.sent}
    assert (insecure_code, insecure.answered) == (0, insecure.sent)


def test_ipv6_addresses_are_reached(capsys: Capture) -> None:
    with http_server(well, host="::1") as server:
        code, found = load(capsys, "http", server.address, *RATE)

    assert code == 0
    assert found.answered == len(server.arrivals) > 0
