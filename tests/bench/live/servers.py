"""Targets of the load: servers in a thread of their own that note each unit, and answer it as a test wants."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec
from aiohttp import web

from bench.live.address import place
from bench.live.command import main
from bench.live.schedule import LATE_SECONDS
from bench.live.summary import Summary
from tests.bench.peers import closed_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    import pytest

    TcpAnswer = Callable[[int, bytes, asyncio.StreamWriter], Awaitable[None]]
    UdpAnswer = Callable[[int, bytes], list[bytes]]
    HttpAnswer = Callable[[int, web.Request], Awaitable[web.StreamResponse]]

SIZE = 64
SETTLES = 0.05
"""Seconds."""
SLACK = 0.15
"""Seconds by which a busy machine may bring two units closer to each other on their way."""


@dataclass
class Seen:
    """What the server knows. arrivals: when each unit came; most: how many were with it at the same time."""

    address: str = ""
    arrivals: list[float] = field(default_factory=list)
    connections: int = 0
    received: int = 0
    most: int = 0
    present: int = 0

    def begin(self) -> int:
        """Note a unit; give its number."""
        self.arrivals.append(time.perf_counter())
        self.present += 1
        self.most = max(self.most, self.present)
        return len(self.arrivals) - 1


class Outcome(NamedTuple):
    """What came of a load: its exit code and its summary."""

    code: int
    summary: Summary


def load(capsys: pytest.CaptureFixture[str], *argv: str) -> Outcome:
    """Run a load in this process."""
    code = main([*argv, "--json", "--quiet"])
    found = capsys.readouterr()
    assert found.err == ""
    return Outcome(code, msgspec.json.decode(found.out, type=Summary))


def all_due(found: Summary) -> int:
    """Give how many units were due, whatever became of them."""
    assert found.sent == found.answered + found.failed + found.lost + found.cut_off
    return found.sent + found.not_sent_busy + found.not_sent_late


def assert_never_faster(arrivals: list[float], rate: float) -> None:
    """No window between two units has more of them than the rate allows."""
    for first, begin in enumerate(arrivals):
        for last in range(first, len(arrivals)):
            assert last - first + 1 <= rate * (arrivals[last] - begin + LATE_SECONDS + SLACK) + 2


def nowhere() -> str:
    """Give an address that nobody listens on."""
    host, port = closed_port()
    return f"{host}:{port}"


async def echo(_number: int, message: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(message)


@contextmanager
def tcp_server(answer: TcpAnswer = echo, host: str = "127.0.0.1", size: int = SIZE) -> Iterator[Seen]:
    """Answer each message of this size."""
    with _in_a_thread(lambda seen: _tcp(seen, answer, host, size)) as seen:
        yield seen


@contextmanager
def udp_server(answer: UdpAnswer, host: str = "127.0.0.1", delay: float = 0) -> Iterator[Seen]:
    """Answer each datagram with those that answer(number, datagram) gives, so many seconds later."""
    with _in_a_thread(lambda seen: _udp(seen, answer, host, delay)) as seen:
        yield seen


@contextmanager
def http_server(answer: HttpAnswer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Seen]:
    """Answer each request."""
    with _in_a_thread(lambda seen: _http(seen, answer, tls, host)) as seen:
        yield seen


@contextmanager
def _in_a_thread(serve: Callable[[Seen], AbstractAsyncContextManager[None]]) -> Iterator[Seen]:
    seen = Seen()
    started: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def run() -> None:
        async with serve(seen):
            ended = asyncio.Event()
            started.put((asyncio.get_running_loop(), ended))
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    loop, ended = started.get(timeout=10)
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


@asynccontextmanager
async def _tcp(seen: Seen, answer: TcpAnswer, host: str, size: int) -> AsyncIterator[None]:
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        seen.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                message = await reader.readexactly(size)
                number = seen.begin()
                seen.received += len(message)
                try:
                    await answer(number, message, writer)
                finally:
                    seen.present -= 1
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    seen.address = place(*server.sockets[0].getsockname()[:2])
    async with server:
        yield
        await asyncio.sleep(SETTLES)  # who is accepted while a server closes is closed by nobody (CPython 3.11)
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, seen: Seen, answer: UdpAnswer, delay: float) -> None:
        self._seen = seen
        self._answer = answer
        self._delay = delay
        self._clients: set[tuple[str, int]] = set()
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override] # what asyncio really gives
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._clients.add(addr)
        self._seen.connections = len(self._clients)
        self._seen.received += len(data)
        number = self._seen.begin()
        self._seen.present -= 1
        for reply in self._answer(number, data):
            asyncio.get_running_loop().call_later(self._delay, self._transport.sendto, reply, addr)


@asynccontextmanager
async def _udp(seen: Seen, answer: UdpAnswer, host: str, delay: float) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.create_datagram_endpoint(lambda: _Datagrams(seen, answer, delay), local_addr=(host, 0))
    seen.address = place(*transport.get_extra_info("sockname")[:2])
    try:
        yield
    finally:
        transport.close()


@asynccontextmanager
async def _http(seen: Seen, answer: HttpAnswer, tls: ssl.SSLContext | None, host: str) -> AsyncIterator[None]:
    transports = set()

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        transports.add(request.transport)
        seen.connections = len(transports)
        number = seen.begin()
        try:
            seen.received += len(await request.read())
            return await answer(number, cast("web.Request", request))
        finally:
            seen.present -= 1

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=tls)
    await site.start()
    seen.address = f"{'https' if tls else 'http'}://{place(*runner.addresses[0][:2])}/"
    try:
        yield
    finally:
        await runner.cleanup()
