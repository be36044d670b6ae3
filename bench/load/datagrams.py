"""UDP round trips: each flow has one datagram under way and sends the next one when it is back. Units are round trips.

A datagram that does not come back in time is lost: counted, and the flow sends again.
"""

from __future__ import annotations

import select
from contextlib import suppress
from struct import Struct
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Final

from bench.load.generator import Address, Failures, Latencies, Loop, Result, flows

if TYPE_CHECKING:
    import socket

LOST_NS: Final = 200_000_000
CHECK_SECONDS: Final = 0.05
NUMBER: Final = Struct("!Q")
"""What a datagram begins with: its number within its flow."""
BUFFER: Final = bytearray(65536)


class Datagrams:
    """The other side must echo."""

    def __init__(self, address: Address, connections: int = 64, size: int = 64) -> None:
        self._latencies = Latencies()
        self._failures = Failures()
        self._loop = Loop()
        self._flows = [Flow(sock, size, self._latencies, self._failures, self._loop) for sock in flows(address, connections)]

    def run(self, until: float) -> None:
        """Send and receive until then."""
        while (now := perf_counter()) < until:
            late = perf_counter_ns() - LOST_NS
            for flow in self._flows:
                if flow.started < late:
                    flow.send_again()
            self._loop.run(min(until, now + CHECK_SECONDS))

    def reset(self) -> None:
        """Forget what has been counted."""
        self._latencies.reset()
        self._failures.reset()
        for flow in self._flows:
            flow.lost = 0

    def result(self, seconds: float) -> Result:
        """Tell how many came back, and how quickly, and how many were lost; failed: refused ones, or all flows if nothing came back."""
        late, lost = self._latencies, sum(flow.lost for flow in self._flows)
        if not late:
            self._failures.add(TimeoutError("no datagram came back"), len(self._flows))
        failures = self._failures
        return Result(len(late), seconds, len(failures), *late.quantiles(), lost=lost, error=failures.words)

    def close(self) -> None:
        """Close every socket."""
        for flow in self._flows:
            flow.close()
        self._loop.close()


class Flow:
    """One connected socket: the number in the last datagram tells its answer from one that comes too late. started: when it was sent."""

    __slots__ = ("_datagram", "_done", "_failures", "_receive", "_send", "_sequence", "_size", "_sock", "lost", "started")

    def __init__(self, sock: socket.socket, size: int, latencies: Latencies, failures: Failures, loop: Loop) -> None:
        self._sock = sock
        self._send, self._receive = sock.send, sock.recv_into
        self._size = max(NUMBER.size, size)
        self._datagram = bytearray(self._size)
        self._done = latencies.add
        self._failures = failures
        self._sequence = 0
        self.started = 0
        self.lost = 0
        loop.add(sock.fileno(), select.EPOLLIN, self._ready)

    def send_again(self) -> None:
        """Send the first datagram, or one in the place of a lost one."""
        self.lost += bool(self.started)
        with suppress(OSError):
            self._next()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _next(self) -> None:
        self._sequence += 1
        NUMBER.pack_into(self._datagram, 0, self._sequence)
        self.started = perf_counter_ns()
        self._send(self._datagram)

    def _ready(self) -> None:
        try:
            size = self._receive(BUFFER)
            if size == self._size and NUMBER.unpack_from(BUFFER)[0] == self._sequence:
                self._done(perf_counter_ns() - self.started)
                self._next()
        except BlockingIOError:
            return
        except OSError as error:
            # Refused, not lost: it is sent again at the next check.
            self._failures.add(error)
            self.started = 0
