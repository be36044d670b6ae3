"""A relay between a client and the API server that does to the answers what networks and proxies do: faults, at will.

It ends TLS with a certificate of the tests (clients then need a token: a client certificate ends here too), or
passes the bytes on as they are. It may listen in one network namespace and connect from another. Everything runs on
a thread of its own; the methods may be called from any other, also while bytes flow.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from tests.lab.namespaces import Namespace

T = TypeVar("T")
PIECE: Final = 65536
ABORTING: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: a close becomes a reset."""


@dataclass(frozen=True)
class Fault:
    """What becomes of the bytes on their way to the client, from now on. As it is made: nothing.

    delay: seconds that each piece waits. replace: bytes and what stands in their place. flip_every: each so-many-th
    byte has its bits flipped. then: what happens to a connection when `after` more bytes have passed over it: it is
    closed in order, or reset, or nothing passes any more in either direction. times: after so many connections that
    met this end everything is well again; 0: never.
    """

    delay: float = 0.0
    replace: tuple[bytes, bytes] = (b"", b"")
    flip_every: int = 0
    then: Literal["", "close", "reset", "stall"] = ""
    after: int = 0
    times: int = 0


HEALTHY: Final = Fault()
STALLED: Final = Fault(then="stall")


SETTLES: Final = 2.0
"""Seconds within which a TLS handshake ends, or its client gives it up."""


class Traffic(NamedTuple):
    """What passed: connections ever accepted, those open now, bytes to clients and to the API server."""

    accepted: int = 0
    open: int = 0
    to_clients: int = 0
    to_server: int = 0


@dataclass(eq=False)
class _Passage:
    """One client's connection and the one to the API server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    since: Fault = HEALTHY
    passed: int = 0
    """Bytes to the client since the fault came into force."""

    def end(self, *, reset: bool) -> None:
        """Close both connections, the client's one in order or with a reset."""
        if reset:
            self.client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTING)
            abort(self.client)
        self.client.close()
        abort(self.server)


def abort(writer: asyncio.StreamWriter) -> None:
    """Close a connection without a good-bye. Before CPython 3.11.4 a TLS connection that has ended cannot be asked for that."""
    with suppress(AttributeError):
        writer.transport.abort()


class Relay:
    """Use it as a context manager.

    connect: opens a TCP connection to the API server; blocking, it is called on a thread. certificate: chain and key
    to end TLS with; without it bytes pass as they are. address, namespace: where to listen; the port is free.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        *,
        certificate: tuple[Path, Path] | None = None,
        address: str = "127.0.0.1",
        namespace: Namespace | None = None,
    ) -> None:
        self._connect = connect
        self._inwards = _server_tls(certificate) if certificate else None
        self._outwards = _client_tls() if certificate else None
        self._address, self._namespace = address, namespace
        self._fault = HEALTHY
        self._met = 0
        self._traffic = Traffic()
        self._passages: set[_Passage] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: set[socket.socket] = set()
        """Connected on a thread, and nobody's yet: whoever waited for it may have been cancelled."""
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._changed = asyncio.Condition()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://{f'[{self._address}]' if ':' in self._address else self._address}:{self.port}"

    @property
    def traffic(self) -> Traffic:
        """What passed so far."""
        return self._traffic._replace(open=len(self._passages))

    @property
    def fault(self) -> Fault:
        """What happens to bytes now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._call(self._set(fault))

    @contextmanager
    def faulty(self, fault: Fault) -> Iterator[None]:
        """Have a fault for a while."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = HEALTHY

    def cut(self, *, reset: bool = False) -> int:
        """End every connection now, in order or with a reset; give their number."""
        return self._call(self._cut(reset=reset))

    def refuse(self) -> None:
        """Listen no more: new connections are refused, open ones stay."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Listen (again), on the same port as before."""
        raw = self._namespace.call(_listen, self._address, self.port) if self._namespace else _listen(self._address, self.port)
        self.port = raw.getsockname()[1]
        self._call(self._accept(raw))

    def _call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _accept(self, raw: socket.socket) -> None:
        self._listener = await asyncio.start_server(self._begin, sock=raw, ssl=self._inwards)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()

    async def _set(self, fault: Fault) -> None:
        async with self._changed:
            self._fault, self._met = fault, 0
            self._changed.notify_all()

    async def _cut(self, *, reset: bool) -> int:
        ended = list(self._passages)
        for passage in ended:
            passage.end(reset=reset)
        return len(ended)

    async def _end(self) -> None:
        await self._refuse()
        # From here on nobody cares how connections end, half-open ones included.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        await _cancel(self._tasks)
        handshakes = asyncio.all_tasks() - {asyncio.current_task()}
        if handshakes:
            # Who is in the middle of a TLS handshake is still asyncio's, which does not close it when it is cancelled.
            await asyncio.wait(handshakes, timeout=SETTLES)
        await _cancel(asyncio.all_tasks() - {asyncio.current_task()})
        await self._loop.shutdown_default_executor()
        for raw in self._connecting:
            raw.close()

    def _begin(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(from_client, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self._traffic = self._traffic._replace(accepted=self._traffic.accepted + 1)
        try:
            await self._carry(from_client, client)
        except asyncio.CancelledError:
            abort(client)
            raise

    async def _carry(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await self._open()
        except OSError:
            client.close()
            return
        passage = _Passage(client, server)
        self._passages.add(passage)
        try:
            await self._both_ways(passage, from_client, from_server)
        finally:
            self._passages.discard(passage)
            passage.end(reset=False)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = await asyncio.to_thread(self._connect_now)
        opened = await asyncio.open_connection(sock=raw, ssl=self._outwards, server_hostname="" if self._outwards else None)
        self._connecting.discard(raw)
        return opened

    def _connect_now(self) -> socket.socket:
        raw = self._connect()
        self._connecting.add(raw)
        raw.settimeout(0)
        return raw

    async def _both_ways(self, passage: _Passage, from_client: asyncio.StreamReader, from_server: asyncio.StreamReader) -> None:
        ways = [asyncio.ensure_future(way) for way in (self._up(from_client, passage), self._down(from_server, passage))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, passage: _Passage) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._not_stalled(passage)
                passage.server.write(piece)
                await passage.server.drain()
                self._traffic = self._traffic._replace(to_server=self._traffic.to_server + len(piece))

    async def _down(self, reader: asyncio.StreamReader, passage: _Passage) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                rest = piece
                while rest:
                    rest = await self._pass(rest, passage)

    async def _pass(self, piece: bytes, passage: _Passage) -> bytes:
        """Pass on what the fault in force lets through, damaged as it says; give what is left."""
        await self._not_stalled(passage)
        fault = self._fault
        await asyncio.sleep(fault.delay)
        room = fault.after - passage.passed if fault.then else len(piece)
        part, rest = piece[:room], piece[room:]
        passage.client.write(damaged(part, fault, passage.passed))
        await passage.client.drain()
        passage.passed += len(part)
        self._traffic = self._traffic._replace(to_clients=self._traffic.to_clients + len(part))
        if fault.then in {"close", "reset"} and passage.passed >= fault.after:
            await self._meet_end(passage)
        return rest

    async def _meet_end(self, passage: _Passage) -> None:
        """End a connection as the fault in force says."""
        fault = self._fault
        self._met += 1
        if fault.times and self._met >= fault.times:
            await self._set(HEALTHY)
        passage.end(reset=fault.then == "reset")
        raise ConnectionAbortedError(fault.then)

    async def _not_stalled(self, passage: _Passage) -> None:
        """Wait until bytes may pass over this connection."""
        while True:
            if passage.since is not self._fault:
                passage.since, passage.passed = self._fault, 0
            if self._fault.then != "stall" or passage.passed < self._fault.after:
                return
            async with self._changed:
                await self._changed.wait()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    ended = list(tasks)
    for task in ended:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)


def damaged(part: bytes, fault: Fault, passed: int) -> bytes:
    """Damage bytes, the first of which is number `passed` of its connection since the fault came into force."""
    old, new = fault.replace
    found = bytearray(part.replace(old, new) if old else part)
    if fault.flip_every:
        for place in range(-(passed + 1) % fault.flip_every, len(found), fault.flip_every):
            found[place] ^= 0xFF
    return bytes(found)


def _listen(address: str, port: int) -> socket.socket:
    return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)


def _server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def _client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
