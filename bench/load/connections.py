"""New connections: connect, one request, its answer, close by the client; some at a time. Units are connections."""

from __future__ import annotations

import select
import socket
from functools import partial
from time import perf_counter, perf_counter_ns
from typing import Final

from bench.load.generator import Address, Latencies, Loop, Result

EDGE: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
STUCK_NS: Final = 5_000_000_000
"""A connection that takes longer is counted as failed and replaced."""
RENEW_SECONDS: Final = 0.05
"""How often connections that could not even be tried, or are stuck, are replaced."""


class Connections:
    """The other side must echo. Failures are counted by reason; the most frequent one is told."""

    def __init__(self, address: Address, connections: int = 50, size: int = 64) -> None:
        self.address = address
        self.request = bytes(size)
        self.latencies = Latencies()
        self.loop = Loop()
        self._failures: dict[str, int] = {}
        self._attempts = [Attempt(self) for _ in range(connections)]

    def run(self, until: float) -> None:
        """Open connections until then."""
        while (now := perf_counter()) < until:
            for attempt in self._attempts:
                attempt.renew_if_stuck(perf_counter_ns())
            self.loop.run(min(until, now + RENEW_SECONDS))

    def reset(self) -> None:
        """Forget what has been counted."""
        self.latencies.reset()
        self._failures.clear()

    def failed(self, error: OSError) -> None:
        """Count a failure."""
        reason = error.strerror or type(error).__name__
        self._failures[reason] = self._failures.get(reason, 0) + 1

    def result(self, seconds: float) -> Result:
        """Tell how many were served, and how quickly, and how many failed."""
        late, failures = self.latencies, self._failures
        error = max(failures, key=failures.__getitem__) if failures else ""
        return Result(len(late), seconds, sum(failures.values()), late.microseconds(0.5), late.microseconds(0.99), error)

    def close(self) -> None:
        """Close every connection."""
        for attempt in self._attempts:
            attempt.close()
        self.loop.close()


class Attempt:
    """One connection at a time, replaced by the next one when it has its answer or failed."""

    __slots__ = ("_buffer", "_missing", "_owner", "_sock", "_started")

    def __init__(self, owner: Connections) -> None:
        self._owner = owner
        self._buffer = bytearray(65536)
        self._missing = 0
        self._started = 0
        self._sock: socket.socket | None = None

    def renew_if_stuck(self, now: int) -> None:
        """Begin again if there is no connection, or one that has taken too long."""
        if self._sock and now - self._started > STUCK_NS:
            self._fail(TimeoutError("stuck"))
        if not self._sock:
            self._open()

    def close(self) -> None:
        """Close the connection; closing takes it out of the epoll."""
        if self._sock:
            self._sock.close()
            self._sock = None

    def _open(self) -> None:
        self._missing = 0
        self._started = perf_counter_ns()
        self._sock = sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._owner.address)
        except BlockingIOError:
            self._owner.loop.add(sock.fileno(), EDGE, partial(self._ready, sock))
        except OSError as error:
            self._fail(error)

    def _ready(self, sock: socket.socket) -> None:
        try:
            if self._missing:
                self._take(sock.recv_into(self._buffer))
            else:
                self._missing = sock.send(self._owner.request)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)

    def _take(self, size: int) -> None:
        if not size:
            raise ConnectionResetError("ended without an answer")
        self._missing -= size
        if not self._missing:
            self._owner.latencies.add(perf_counter_ns() - self._started)
            self.close()
            self._open()

    def _fail(self, error: OSError) -> None:
        self._owner.failed(error)
        self.close()
