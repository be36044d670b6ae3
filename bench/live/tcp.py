"""TCP: a unit is a message and its answer, on a connection that stays open or on one of its own."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from bench.live.failures import CLOSED, DIFFERENT, Failure
from bench.live.lane import Site, payload, unconnected

if TYPE_CHECKING:
    from bench.live.resolve import Address
    from bench.live.tally import Tally


class Connection(asyncio.Protocol):
    """One connection: who sends waits for the answer. ended: nothing can be sent any more."""

    def __init__(self, tally: Tally, expect: str) -> None:
        self.ended = False
        self._tally = tally
        self._expect = expect
        self._answer: asyncio.Future[None] | None = None
        self._message = b""
        self._compared = 0

    async def exchange(self, transport: asyncio.Transport, message: bytes) -> None:
        """Send a message and wait for what is expected; raises OSError, Failure."""
        self._message, self._compared = message, 0
        self._answer = asyncio.get_running_loop().create_future()
        transport.write(message)
        self._tally.bytes_sent += len(message)
        if self._expect == "none" and not transport.get_write_buffer_size():
            self._done()
        try:
            await self._answer
        finally:
            self._answer = None

    def resume_writing(self) -> None:
        """Learn from asyncio that the kernel has taken everything: the buffer's limit is 0."""
        if self._expect == "none":
            self._done()

    def data_received(self, data: bytes) -> None:
        """Compare with what was sent, as far as it has come."""
        self._tally.bytes_received += len(data)
        if self._expect == "none":
            return
        if self._answer is None or self._answer.done():
            self._tally.stray += 1
        elif self._expect == "any":
            self._done()
        else:
            self._compare(data)

    def eof_received(self) -> None:
        """End with the other side: what has not come will not come."""
        self._end(Failure(CLOSED))

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._end(exc or Failure(CLOSED))

    def _compare(self, data: bytes) -> None:
        if not self._message.startswith(data, self._compared):
            self._end(Failure(DIFFERENT))
        self._compared += len(data)
        if self._compared == len(self._message):
            self._done()

    def _done(self) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(None)

    def _end(self, error: Exception) -> None:
        self.ended = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)


class TcpLane:
    """One connection after the other, or one for all units."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open: tuple[asyncio.Transport, Connection] | None = None

    async def exchange(self, number: int) -> None:
        """Send a unit. After a failure the connection is gone: what comes late on it could be taken for another answer."""
        try:
            transport, connection = await self._connection()
            await connection.exchange(transport, payload(number, self._site.options.size))
        except BaseException:
            if self._open:
                self._open[0].abort()
            self._open = None
            raise
        if self._site.options.new_connection:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._open:
            self._open[0].close()
        self._open = None

    async def _connection(self) -> tuple[asyncio.Transport, Connection]:
        """Give the connection; a new one if the other side has closed it since the last answer. Raises OSError."""
        if self._open and self._open[1].ended:
            self.close()
        if not self._open:
            self._open = await self._connect()
            self._site.tally.opened += 1
        return self._open

    async def _connect(self) -> tuple[asyncio.Transport, Connection]:
        """Connect to the first address that takes it, and from then on to no other. Raises OSError."""
        addresses = self._site.addresses
        for address in addresses[:-1]:
            try:
                made = await self._connect_to(address)
            except OSError:
                continue
            addresses[:] = [address]
            return made
        return await self._connect_to(addresses[-1])

    async def _connect_to(self, address: Address) -> tuple[asyncio.Transport, Connection]:
        loop = asyncio.get_running_loop()
        sock = unconnected(address, socket.SOCK_STREAM)
        try:
            await loop.sock_connect(sock, address.sockaddr)
            made = await loop.create_connection(lambda: Connection(self._site.tally, self._site.options.expect), sock=sock)
        except BaseException:
            sock.close()
            raise
        made[0].set_write_buffer_limits(0)
        return made
