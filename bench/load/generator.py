"""What all generators share: their Protocol, their epoll loop, their result.

A generator is closed-loop if not said otherwise: each of its connections or flows has one thing under way at a time, so it
never sends more than is answered. Latencies are nanoseconds.
"""

from __future__ import annotations

import select
import socket
from array import array
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Address = tuple[str, int]
EVENTS: Final = 256
CONNECT_SECONDS: Final = 5.0
STUCK_NS: Final = 1_000_000_000
"""What takes longer than this is not slow, it is stuck."""
PAUSE: Final = 0.05
"""Seconds after which a quiet loop looks at the clock."""


class Quantiles(NamedTuple):
    """Microseconds, 0.0 if nothing was measured."""

    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0


class Result(NamedTuple):
    """What came out: a part of bench.figures.Sample, under the same names.

    units: bytes, requests, connections, round trips or datagrams; failed: what was tried and did not come to an end, error: the
    most frequent reason; lost: datagrams that did not arrive, or whose answer did not.
    """

    units: int
    seconds: float
    failed: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    lost: int = 0
    error: str = ""
    extra: Mapping[str, float] = {}


class Generator(Protocol):
    """One kind of traffic."""

    def run(self, until: float) -> None:
        """Make traffic until time.perf_counter() says so; raises OSError when the target cannot be reached at all."""

    def reset(self) -> None:
        """Forget what has been counted: the warm-up is over."""

    def result(self, seconds: float) -> Result:
        """Tell what has been counted in these seconds, after what is under way where the load does not wait for answers."""

    def close(self) -> None:
        """Close every connection."""


class Loop:
    """An epoll, level-triggered where a mask does not say otherwise, that calls one handler per descriptor, without arguments."""

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
        while perf_counter() < until:
            self.turn(PAUSE)

    def run_while(self, condition: Callable[[], object], until: float) -> None:
        """Handle events while a condition holds, and no longer than until then."""
        while condition() and (left := until - perf_counter()) > 0:
            self.turn(min(PAUSE, left))

    def turn(self, seconds: float) -> None:
        """Wait at most that long for events and handle them."""
        handlers = self.handlers
        for descriptor, _mask in self._epoll.poll(seconds, EVENTS):
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

    def quantiles(self) -> Quantiles:
        """Give the latencies that 500, 990 and 999 of 1,000 units did not exceed."""
        ordered = sorted(self._all)
        return Quantiles(*(ordered[_rank(len(ordered), share)] / 1000 for share in (500, 990, 999))) if ordered else Quantiles()


def _rank(count: int, per_mille: int) -> int:
    """Give the place of the smallest value that so many of 1,000 do not exceed, in integers: 0.99 * 100 is less than 99 as a float."""
    return -(-count * per_mille // 1000) - 1


class Failures:
    """Counted by reason."""

    def __init__(self) -> None:
        self._by_reason: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(self._by_reason.values())

    def add(self, error: OSError, count: int = 1) -> None:
        """Count a failure."""
        reason = error.strerror or str(error) or type(error).__name__
        self._by_reason[reason] = self._by_reason.get(reason, 0) + count

    def reset(self) -> None:
        """Forget all."""
        self._by_reason.clear()

    @property
    def words(self) -> str:
        """The most frequent reason, empty without a failure."""
        return max(self._by_reason, key=self._by_reason.__getitem__) if self._by_reason else ""


def family(host: str) -> socket.AddressFamily:
    """Give the family of a numeric address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def connect(address: Address, count: int) -> list[socket.socket]:
    """Open connections, one after the other; they do not block. Raises OSError."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(sock := socket.create_connection(address, timeout=CONNECT_SECONDS))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(0)
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened


def flows(address: Address, count: int) -> list[socket.socket]:
    """Open connected UDP sockets; they do not block. Raises OSError."""
    opened = [socket.socket(family(address[0]), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(count)]
    for sock in opened:
        sock.connect(address)
    return opened
