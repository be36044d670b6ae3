"""Requests over connections that stay open: each sends the next one when it has the whole answer. Units are requests."""

from __future__ import annotations

import select
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from bench.load.generator import STUCK_NS, Address, Latencies, Loop, Result, connect

if TYPE_CHECKING:
    import socket

BUFFER: Final = 65536


class Requests:
    """The other side must echo: an answer is as long as its request."""

    def __init__(self, address: Address, connections: int = 32, size: int = 64) -> None:
        self._latencies = Latencies()
        self._loop = Loop()
        self._sockets = connect(address, connections)
        request, buffer = bytes(size), bytearray(BUFFER)
        self._pairs = [Pair(sock, request, buffer, self._latencies, self._loop) for sock in self._sockets]
        for pair in self._pairs:
            pair.begin()

    def run(self, until: float) -> None:
        """Make requests until then; raises OSError when a connection breaks."""
        self._loop.run(until)

    def reset(self) -> None:
        """Forget what has been counted."""
        self._latencies.reset()

    def result(self, seconds: float) -> Result:
        """Tell how many were answered, and how quickly; failed: connections whose answer is not there after a second."""
        late, now = self._latencies, perf_counter_ns()
        stuck = sum(now - pair.started > STUCK_NS for pair in self._pairs)
        return Result(len(late), seconds, stuck, *late.quantiles(), error="no answer within 1 s" if stuck else "")

    def close(self) -> None:
        """Close every connection."""
        for sock in self._sockets:
            sock.close()
        self._loop.close()


class Pair:
    """One connection: the request that is under way and what is missing of its answer. started: when it was sent."""

    __slots__ = ("_buffer", "_descriptor", "_done", "_loop", "_missing", "_receive", "_request", "_send", "_unsent", "started")

    def __init__(self, sock: socket.socket, request: bytes, buffer: bytearray, latencies: Latencies, loop: Loop) -> None:
        self._receive = sock.recv_into
        self._send = sock.send
        self._request = request
        self._done = latencies.add
        self._loop = loop
        self._descriptor = sock.fileno()
        self._buffer = buffer
        self._missing = 0
        self.started = 0
        self._unsent = b""
        loop.add(self._descriptor, select.EPOLLIN, self.ready)

    def begin(self) -> None:
        """Send a request."""
        self._missing = len(self._request)
        self.started = perf_counter_ns()
        sent = self._send(self._request)
        if sent < self._missing:
            self._wait_to_send(self._request[sent:])

    def ready(self) -> None:
        """Take a part of the answer; after the last one the next request goes out."""
        self._take()
        if not self._missing:
            self._done(perf_counter_ns() - self.started)
            self.begin()

    def _wait_to_send(self, unsent: bytes) -> None:
        """Send the rest of a long request before its answer is read: an echo sends nothing back that it has not read."""
        self._unsent = unsent
        self._loop.handlers[self._descriptor] = self._send_more
        self._loop.modify(self._descriptor, select.EPOLLIN | select.EPOLLOUT)

    def _send_more(self) -> None:
        try:
            self._unsent = self._unsent[self._send(self._unsent) :]
        except BlockingIOError:
            self._take()
        if not self._unsent:
            self._loop.handlers[self._descriptor] = self.ready
            self._loop.modify(self._descriptor, select.EPOLLIN)

    def _take(self) -> None:
        size = self._receive(self._buffer)
        if not size:
            raise ConnectionResetError("the connection ended")
        self._missing -= size
