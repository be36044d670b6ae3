"""UDP: a unit is a datagram and its answer, from a socket that stays open (one flow) or from one of its own."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final

from bench.live.lane import Site, payload, unconnected

LONGEST: Final = 65_536


class UdpLane:
    """A connected socket with one datagram under way. Answers to earlier ones, given up meanwhile, are strays."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._sock: socket.socket | None = None

    async def exchange(self, number: int) -> None:
        """Send a datagram; without an expectation only a refusal of the one before can be noticed. Raises OSError."""
        options, tally = self._site.options, self._site.tally
        sock, datagram = self._sock or self._connect(), payload(number, options.size)
        if options.expect != "none":
            self._drain(sock)
        await asyncio.get_running_loop().sock_sendall(sock, datagram)
        tally.bytes_sent += len(datagram)
        if options.expect != "none":
            await self._receive(sock, datagram)
        if options.new_connection:
            self.close()

    def close(self) -> None:
        """Close the socket."""
        if self._sock:
            self._sock.close()
        self._sock = None

    def _connect(self) -> socket.socket:
        address = self._site.addresses[0]
        self._sock = unconnected(address, socket.SOCK_DGRAM)
        self._sock.connect(address.sockaddr)
        self._site.tally.opened += 1
        return self._sock

    async def _receive(self, sock: socket.socket, datagram: bytes) -> None:
        loop, tally = asyncio.get_running_loop(), self._site.tally
        while True:
            answer = await loop.sock_recv(sock, LONGEST)
            tally.bytes_received += len(answer)
            if answer == datagram or self._site.options.expect == "any":
                return
            tally.stray += 1

    def _drain(self, sock: socket.socket) -> None:
        """Throw away what came for datagrams that are lost already, and their refusals."""
        with suppress(OSError):
            while True:
                self._site.tally.bytes_received += len(sock.recv(LONGEST))
                self._site.tally.stray += 1
