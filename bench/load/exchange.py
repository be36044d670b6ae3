"""One new connection: connect, one request, its answer. What follows is up to who began it."""

from __future__ import annotations

import errno
import os
import select
import socket
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final, Protocol

from bench.load.generator import family

if TYPE_CHECKING:
    from bench.load.generator import Address, Loop

EDGE: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
"""One registration for all that a connection goes through."""
BUFFER: Final = bytearray(65536)
"""What is received is only counted: one buffer for all connections."""


class Owner(Protocol):
    """Who begins exchanges. until_end: the other side closes after its answer, and an exchange lasts until then."""

    address: Address
    request: bytes
    until_end: bool
    loop: Loop

    def served(self, exchange: Exchange, nanoseconds: int) -> None:
        """Take note of an answer."""

    def failed(self, exchange: Exchange, error: OSError) -> None:
        """Take note of a failure; the connection is closed. After served() too, if the connection has not been closed by then."""


class Exchange:
    """One connection at a time; it can be opened again when it is closed. started: when it was opened last, perf_counter_ns()."""

    __slots__ = ("_ending", "_missing", "_owner", "_sock", "started")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._missing = 0
        self._ending = False
        self._sock: socket.socket | None = None
        self.started = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._sock is not None

    def open(self) -> None:
        """Begin."""
        owner = self._owner
        self._missing, self._ending = 0, False
        self.started = perf_counter_ns()
        try:
            self._sock = sock = socket.socket(family(owner.address[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self.fail(error)
            return
        code = sock.connect_ex(owner.address)
        if code in {0, errno.EINPROGRESS}:
            owner.loop.add(sock.fileno(), EDGE, partial(self._ready, sock))
        else:
            self.fail(OSError(code, os.strerror(code)))

    def close(self) -> None:
        """Close the connection; closing takes it out of the epoll."""
        if self._sock:
            self._sock.close()
            self._sock = None

    def fail(self, error: OSError) -> None:
        """Close it and tell the owner."""
        self.close()
        self._owner.failed(self, error)

    def _ready(self, sock: socket.socket) -> None:
        try:
            if self._missing:
                self._take(sock.recv_into(BUFFER))
            elif self._ending:
                self._end(sock.recv_into(BUFFER))
            else:
                self._missing = sock.send(self._owner.request)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)

    def _take(self, size: int) -> None:
        if not size:
            raise ConnectionResetError("ended without an answer")
        self._missing -= size
        if not self._missing:
            self._ending = True
            if not self._owner.until_end:
                self._owner.served(self, perf_counter_ns() - self.started)
            elif self._sock:
                # Edge-triggered: an end that came along with the answer is not told again.
                self._end(self._sock.recv_into(BUFFER))

    def _end(self, size: int) -> None:
        if size or not self._owner.until_end:
            raise ConnectionResetError("more than the answer came" if size else "the connection ended")
        self._owner.served(self, perf_counter_ns() - self.started)
