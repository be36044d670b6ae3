"""uproxy.io/proxy-protocol: endpoints are told the client's address and the service's before the client's first bytes."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.annotated import Annotated
from tests.dataplane.running import Server, connect, read_all, read_exactly, refusing_endpoint, reset
from uproxy.config import Config, TcpSettings
from uproxy.core.model import NO_OPTIONS, ServiceOptions
from uproxy.dataplane.proxy_protocol import SIGNATURE, header

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

VIPS = ("127.0.0.1", "::1")
VERSIONS = (1, 2)


def read_header(sock: socket.socket) -> tuple[int, str, int, str, int]:
    """Read a header as an endpoint would, byte by byte of the specification: version, source and destination."""
    start = read_exactly(sock, 6)
    if start == b"PROXY ":
        line = b""
        while not line.endswith(b"\r\n"):
            line += read_exactly(sock, 1)
        family, source, destination, source_port, destination_port = line.decode("ascii").split()
        assert family == ("TCP6" if ":" in source else "TCP4")
        return 1, source, int(source_port), destination, int(destination_port)
    assert start + read_exactly(sock, 6) == SIGNATURE == bytes.fromhex("0D0A0D0A000D0A515549540A")
    command, family_byte, length = struct.unpack(">BBH", read_exactly(sock, 4))
    assert command == 0x21
    assert (family_byte, length) in {(0x11, 12), (0x21, 36)}
    body = read_exactly(sock, length)
    size = 4 if length == 12 else 16
    source_port, destination_port = struct.unpack(">HH", body[2 * size :])
    source, destination = (str(ip_address(body[start : start + size])) for start in (0, size))
    return 2, source, source_port, destination, destination_port


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("vip", VIPS)
def test_the_header_names_the_client_and_the_service_and_comes_before_the_clients_bytes(
    plane: RunningPlane, vip: str, version: int
) -> None:
    seen = []

    def answer(sock: socket.socket) -> None:
        seen.append(read_header(sock))
        sock.sendall(read_all(sock)[::-1])

    with Server(answer, address=vip) as server:
        served = Annotated(plane, ServiceOptions(proxy_protocol=version), server.endpoint, vip=vip)
        with connect(served.key) as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"olleh"
            assert seen == [(version, *client.getsockname()[:2], vip, served.key.port)]
    assert plane.counters.proxy_headers == {f"v{version}": 1}
    assert plane.call(plane.plane.totals).received == 5


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_speaks_first_gets_the_header_from_a_client_that_says_nothing(plane: RunningPlane, version: int) -> None:
    def greet(sock: socket.socket) -> None:
        assert read_header(sock)[0] == version
        sock.sendall(b"welcome")

    with Server(greet) as server, connect(Annotated(plane, ServiceOptions(proxy_protocol=version), server.endpoint).key) as client:
        assert read_all(client) == b"welcome"


def test_the_header_goes_to_the_endpoint_that_is_reached_in_the_end(plane: RunningPlane) -> None:
    with Server(lambda sock: sock.sendall(b"%d" % read_header(sock)[0])) as server:
        served = Annotated(plane, ServiceOptions(proxy_protocol=2), refusing_endpoint(), refusing_endpoint(), server.endpoint)
        for _ in range(3):
            with connect(served.key) as client:
                client.sendall(b"early")
                assert client.recv(1) == b"2"
    assert plane.counters.proxy_headers == {"v2": 3}


@pytest.mark.parametrize("splice_after", [0, 1])
def test_bulk_in_both_directions_follows_the_header_unharmed(start_plane: Callable[..., RunningPlane], splice_after: int) -> None:
    plane = start_plane(Config(tcp=TcpSettings(splice_after=splice_after)))
    data = random.Random(1).randbytes(16 << 20)

    def answer(sock: socket.socket) -> None:
        read_header(sock)
        received = read_all(sock)
        sock.sendall(hashlib.sha256(received).digest() + received)

    with Server(answer) as server, connect(Annotated(plane, ServiceOptions(proxy_protocol=1), server.endpoint).key) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        digest, back = read_exactly(client, 32), read_all(client)
    assert (digest, back) == (hashlib.sha256(data).digest(), data)
    assert (plane.counters.spliced_bytes > 0) == (splice_after > 0)


def test_without_the_annotation_there_is_no_header_also_after_it_was_taken_away(plane: RunningPlane) -> None:
    with Server(lambda sock: sock.sendall(read_exactly(sock, 5))) as server:
        served = Annotated(plane, ServiceOptions(proxy_protocol=1), server.endpoint)
        for options, expected in ((None, b"PROXY"), (NO_OPTIONS, b"hello"), (ServiceOptions(proxy_protocol=1), b"PROXY")):
            if options is not None:
                served.ask_for(options)
            with connect(served.key) as client:
                client.sendall(b"hello")
                assert read_exactly(client, 5) == expected


def test_clients_that_leave_at_once_leave_nothing_behind(plane: RunningPlane) -> None:
    def watch(sock: socket.socket) -> None:
        try:
            read_all(sock)
        except ConnectionError:
            return

    with Server(watch) as server:
        served = Annotated(plane, ServiceOptions(proxy_protocol=2, max_connections=1000), server.endpoint)
        for _ in range(300):
            reset(connect(served.key))
        plane.until(lambda: plane.plane.open_connections == 0)
    assert len(served.balancer.loads) == 0


def test_a_zone_is_left_out_and_the_longest_header_of_version_1_has_107_bytes() -> None:
    longest = ("fe80:1111:2222:3333:4444:5555:6666:7777", 65535)
    assert header(1, (longest[0] + "%eth0", 65535), longest) == (b"PROXY TCP6 %b %b 65535 65535\r\n" % ((longest[0].encode(),) * 2))
    assert len(header(1, longest, longest)) <= 107
