"""UDP round trips: each flow has one datagram under way and sends the next one when it is back. Units are round trips.

A datagram that does not come back in time is lost: counted, and the flow sends again.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from time import perf_counter, perf_counter_ns
from typing import Final

from bench.load.generator import Address, Latencies, Loop, Result

LOST_NS: Final = 200_000_000
CHECK_SECONDS: Final = 0.05
NUMBER_BYTES: Final = 8


class Datagrams:
    """The other side must echo."""

    def __init__(self, address: Address, connections: int = 64, size: int = 64) -> None:
        self._latencies = Latencies()
        self._loop = Loop()
        self._flows = [Flow(address, size, self._latencies, self._loop) for _ in range(connections)]

    def run(self, until: float) -> None:
        """Send and receive until then."""
        while (now := perf_counter()) < until:
            for flow in self._flows:
                flow.send_if_late(perf_counter_ns())
            self._loop.run(min(until, now + CHECK_SECONDS))

    def reset(self) -> None:
        """Forget what has been counted."""
        self._latencies.reset()
        for flow in self._flows:
            flow.lost = 0

    def result(self, seconds: float) -> Result:
        """Tell how many came back, and how quickly, and how many were lost."""
        late, lost = self._latencies, sum(flow.lost for flow in self._flows)
        return Result(len(late), seconds, lost, late.microseconds(0.5), late.microseconds(0.99), "lost" if lost else "")

    def close(self) -> None:
        """Close every socket."""
        for flow in self._flows:
            flow.close()
        self._loop.close()


class Flow:
    """One connected socket: the number in the last datagram tells its answer from one that comes too late."""

    __slots__ = ("_buffer", "_done", "_padding", "_receive", "_send", "_sequence", "_sock", "_started", "lost")

    def __init__(self, address: Address, size: int, latencies: Latencies, loop: Loop) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.connect(address)
        self._send, self._receive = self._sock.send, self._sock.recv_into
        self._padding = bytes(max(0, size - NUMBER_BYTES))
        self._buffer = bytearray(65536)
        self._done = latencies.add
        self._sequence = 0
        self._started = 0
        self.lost = 0
        loop.add(self._sock.fileno(), select.EPOLLIN, self._ready)

    def send_if_late(self, now: int) -> None:
        """Send the first datagram, or one in the place of a lost one."""
        if now - self._started > LOST_NS:
            self.lost += bool(self._started)
            with suppress(OSError):
                self._next()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _next(self) -> None:
        self._sequence += 1
        self._started = perf_counter_ns()
        self._send(self._sequence.to_bytes(NUMBER_BYTES, "big") + self._padding)

    def _ready(self) -> None:
        with suppress(ConnectionRefusedError):
            self._receive(self._buffer)
            if int.from_bytes(self._buffer[:NUMBER_BYTES], "big") == self._sequence:
                self._done(perf_counter_ns() - self._started)
                self._next()
