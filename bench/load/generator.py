"""What all generators share: their Protocol, their epoll loop, their result.

A generator is closed-loop: each of its connections or flows has one thing under way at a time, so it never
sends more than is answered. Latencies are nanoseconds.
"""

from __future__ import annotations

import select
import socket
from array import array
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Address = tuple[str, int]
EVENTS: Final = 256
CONNECT_SECONDS: Final = 5.0
PAUSE: Final = 0.05
"""Seconds after which a quiet loop looks at the clock."""


class Result(NamedTuple):
    """What came out. units: bytes, requests, connections or round trips; p50 and p99 in microseconds, 0: not measured."""

    units: int
    seconds: float
    failed: int
    p50: float = 0.0
    p99: float = 0.0
    error: str = ""


class Generator(Protocol):
    """One kind of traffic."""

    def run(self, until: float) -> None:
        """Make traffic until time.perf_counter() says so; raises OSError when the target cannot be reached at all."""

    def reset(self) -> None:
        """Forget what has been counted: the warm-up is over."""

    def result(self, seconds: float) -> Result:
        """Tell what has been counted in these seconds."""

    def close(self) -> None:
        """Close every connection."""


class Loop:
    """A level-triggered epoll that calls one handler per descriptor, without arguments."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.modify = self._epoll.modify

    def add(self, descriptor: int, mask: int, handler: Callable[[], None]) -> None:
        """Call handler at each event of mask."""
        self.handlers[descriptor] = handler
        self._epoll.register(descriptor, mask)

    def run(self, until: float) -> None:
        """Handle events until time.perf_counter() says so."""
        poll, handlers = self._epoll.poll, self.handlers
        while perf_counter() < until:
            for descriptor, _mask in poll(PAUSE, EVENTS):
                handlers[descriptor]()

    def close(self) -> None:
        """Close the epoll."""
        self._epoll.close()


class Latencies:
    """Nanoseconds, one per unit."""

    def __init__(self) -> None:
        self._all = array("Q")
        self.add = self._all.append

    def __len__(self) -> int:
        return len(self._all)

    def reset(self) -> None:
        """Forget all."""
        del self._all[:]

    def microseconds(self, share: float) -> float:
        """Give the latency that this share of the units did not exceed; 0.0 without any."""
        ordered = sorted(self._all)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000 if ordered else 0.0


def connect(address: Address, count: int) -> list[socket.socket]:
    """Open connections, one after the other; they do not block. Raises OSError."""
    opened = [socket.create_connection(address, timeout=CONNECT_SECONDS) for _ in range(count)]
    for sock in opened:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(0)
    return opened
