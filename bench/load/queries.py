"""One-shot UDP flows, as a resolver makes them: each query from a new port, one answer, no more. Units are queries.

Some at a time. A query whose answer does not come in time is lost: counted, and replaced by the next one.
"""

from __future__ import annotations

import select
import socket
from functools import partial
from time import perf_counter, perf_counter_ns

from bench.load.datagrams import BUFFER, CHECK_SECONDS, LOST_NS, NUMBER
from bench.load.generator import Address, Failures, Latencies, Loop, Result, family


class Queries:
    """The other side must echo."""

    def __init__(self, address: Address, connections: int = 32, size: int = 64) -> None:
        self.address = address
        self.size = max(NUMBER.size, size)
        self.number = 0
        self.loop = Loop()
        self.latencies = Latencies()
        self.failures = Failures()
        self.lost = 0
        self._queries = [Query(self) for _ in range(connections)]

    def run(self, until: float) -> None:
        """Ask until then."""
        while (now := perf_counter()) < until:
            late = perf_counter_ns() - LOST_NS
            for query in self._queries:
                if query.started < late:
                    query.ask_again()
            self.loop.run(min(until, now + CHECK_SECONDS))

    def reset(self) -> None:
        """Forget what has been counted."""
        self.latencies.reset()
        self.failures.reset()
        self.lost = 0

    def result(self, seconds: float) -> Result:
        """Tell how many were answered, and how quickly, and how many were lost; failed: refused ones, or all if none was answered."""
        late, failures = self.latencies, self.failures
        if not late:
            failures.add(TimeoutError("no query was answered"), len(self._queries))
        return Result(len(late), seconds, len(failures), *late.quantiles(), lost=self.lost, error=failures.words)

    def close(self) -> None:
        """Close every socket."""
        for query in self._queries:
            query.close()
        self.loop.close()


class Query:
    """One query at a time. started: when the last one was sent, 0 without one."""

    __slots__ = ("_number", "_owner", "_sock", "started")

    def __init__(self, owner: Queries) -> None:
        self._owner = owner
        self._number = 0
        self._sock: socket.socket | None = None
        self.started = 0

    def ask_again(self) -> None:
        """Send the first query, or one in the place of a lost one."""
        self._owner.lost += bool(self.started)
        self._ask()

    def close(self) -> None:
        """Close the socket; closing takes it out of the epoll."""
        if self._sock:
            self._sock.close()
            self._sock = None

    def _ask(self) -> None:
        self.close()
        owner = self._owner
        owner.number += 1
        self._number = owner.number
        datagram = bytearray(owner.size)
        NUMBER.pack_into(datagram, 0, self._number)
        self.started = perf_counter_ns()
        self._sock = sock = socket.socket(family(owner.address[0]), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(owner.address)
            owner.loop.add(sock.fileno(), select.EPOLLIN, partial(self._ready, sock))
            sock.send(datagram)
        except OSError as error:
            self._fail(error)

    def _ready(self, sock: socket.socket) -> None:
        try:
            size = sock.recv_into(BUFFER)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if size == self._owner.size and NUMBER.unpack_from(BUFFER)[0] == self._number:
            self._owner.latencies.add(perf_counter_ns() - self.started)
            self._ask()

    def _fail(self, error: OSError) -> None:
        """Count it; the next query goes out at the next check."""
        self._owner.failures.add(error)
        self.close()
        self.started = 0
