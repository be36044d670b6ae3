"""Requests at a fixed rate, whether or not the earlier ones have been answered (open loop). Units are requests.

A latency counts from the moment at which a request was due: who falls behind, the proxy or this program, cannot make it shorter by
making the next request later. Requests go round over the connections; on one of them several may be under way.
"""

from __future__ import annotations

import select
from collections import deque
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Final

from bench.load.generator import STUCK_NS, Address, Latencies, Loop, Result, connect
from bench.load.ticker import Ticker

if TYPE_CHECKING:
    import socket

BUFFER: Final = 65536


class Paced:
    """The other side must echo: an answer is as long as its request. rate: requests in a second."""

    def __init__(self, address: Address, connections: int = 32, size: int = 64, rate: float = 1000.0) -> None:
        self._latencies = Latencies()
        self._loop = Loop()
        self._ticker = Ticker(max(1, round(1e9 / rate)))
        self._sockets = connect(address, connections)
        buffer = bytearray(BUFFER)
        self._lanes = [Lane(sock, size, buffer, self._latencies, self._loop) for sock in self._sockets]
        self._loop.add(self._ticker.descriptor, select.EPOLLIN, self._tick)
        self._due = 0
        self._turn = 0

    def run(self, until: float) -> None:
        """Send and receive until then; raises OSError when a connection breaks."""
        if not self._due:
            self._due = perf_counter_ns() + self._ticker.every_ns
            self._ticker.start(self._due)
        self._loop.run(until)

    def reset(self) -> None:
        """Forget what has been counted."""
        self._latencies.reset()

    def result(self, seconds: float) -> Result:
        """Stop, wait a second for what is under way, and tell how many were answered, and how quickly."""
        self._ticker.stop()
        self._loop.run_while(self._under_way, perf_counter() + STUCK_NS / 1e9)
        late, failed = self._latencies, self._under_way()
        return Result(len(late), seconds, failed, *late.quantiles(), error="no answer within 1 s" if failed else "")

    def close(self) -> None:
        """Close every connection."""
        for sock in self._sockets:
            sock.close()
        self._ticker.close()
        self._loop.close()

    def _tick(self) -> None:
        try:
            ticks = self._ticker.ticks()
        except BlockingIOError:
            return
        lanes, every, due, turn = self._lanes, self._ticker.every_ns, self._due, self._turn
        for _ in range(ticks):
            lanes[turn].request(due)
            due += every
            turn = (turn + 1) % len(lanes)
        self._due, self._turn = due, turn

    def _under_way(self) -> int:
        return sum(len(lane.dues) for lane in self._lanes)


class Lane:
    """One connection. dues: when each of the requests was due that are not yet answered."""

    __slots__ = ("_buffer", "_descriptor", "_done", "_got", "_loop", "_receive", "_send", "_size", "_unsent", "_zeros", "dues")

    def __init__(self, sock: socket.socket, size: int, buffer: bytearray, latencies: Latencies, loop: Loop) -> None:
        self._receive, self._send = sock.recv_into, sock.send
        self._descriptor = sock.fileno()
        self._loop = loop
        self._done = latencies.add
        self._buffer = buffer
        self._zeros = memoryview(bytes(max(size, BUFFER)))
        self._size = size
        self._unsent = self._got = 0
        self.dues: deque[int] = deque()
        loop.add(self._descriptor, select.EPOLLIN, self._take)

    def request(self, due: int) -> None:
        """Send a request, or let it wait behind others."""
        self.dues.append(due)
        waiting = self._unsent
        self._unsent += self._size
        if not waiting:
            self._flush()
            if self._unsent:
                self._wait_for(select.EPOLLIN | select.EPOLLOUT)

    def _flush(self) -> None:
        try:
            self._unsent -= self._send(self._zeros[: self._unsent])
        except BlockingIOError:
            return

    def _wait_for(self, mask: int) -> None:
        self._loop.handlers[self._descriptor] = self._catch_up if mask & select.EPOLLOUT else self._take
        self._loop.modify(self._descriptor, mask)

    def _catch_up(self) -> None:
        """Send what waits, and take answers: an echo that cannot send does not read either."""
        self._flush()
        if not self._unsent:
            self._wait_for(select.EPOLLIN)
        try:
            self._take()
        except BlockingIOError:
            return

    def _take(self) -> None:
        size = self._receive(self._buffer)
        if not size:
            raise ConnectionResetError("the connection ended")
        self._got += size
        while self._got >= self._size:
            self._got -= self._size
            self._done(perf_counter_ns() - self.dues.popleft())
