"""Bulk transfer over some connections: up (client sends), down (client receives) or both at once. Units are bytes."""

from __future__ import annotations

import select
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.load.generator import Address, Loop, Result, connect

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK: Final = 262144
_GIGABIT = 1e9 / 8


class Bulk:
    """Sends as much as is taken, and receives as much as comes: the kernel throws it away (MSG_TRUNC, tcp(7)).

    The other side must discard what it gets, or send, or both.
    """

    def __init__(self, address: Address, connections: int, *, up: bool = False, down: bool = False) -> None:
        self._up = self._down = 0
        self._loop = Loop()
        self._chunk, self._buffer = bytes(CHUNK), bytearray(CHUNK)
        self._connections = connections
        self._sockets = connect(address, connections)
        # One descriptor for each direction, so that an event of one costs no attempt in the other.
        twins = [sock.dup() for sock in self._sockets] if up and down else self._sockets
        if up:
            for sock in self._sockets:
                self._loop.add(sock.fileno(), select.EPOLLOUT, partial(self._send, sock.send))
        if down:
            for sock in twins:
                self._loop.add(sock.fileno(), select.EPOLLIN, partial(self._receive, sock.recv_into))
        self._twins = twins

    def run(self, until: float) -> None:
        """Send and receive until then; raises OSError when a connection breaks."""
        self._loop.run(until)

    def reset(self) -> None:
        """Forget what has been counted."""
        self._up = self._down = 0

    def result(self, seconds: float) -> Result:
        """Tell what went both ways, extra: Gbit/s of each. What waits in the kernel is counted, it is nothing beside the rest."""
        moved = self._up + self._down
        extra = {"up": self._up / seconds / _GIGABIT, "down": self._down / seconds / _GIGABIT}
        return Result(moved, seconds, 0 if moved else self._connections, error="" if moved else "no byte moved", extra=extra)

    def close(self) -> None:
        """Close every connection."""
        for sock in (*self._sockets, *self._twins):
            sock.close()
        self._loop.close()

    def _send(self, send: Callable[[bytes], int]) -> None:
        self._up += send(self._chunk)

    def _receive(self, receive: Callable[[bytearray, int, int], int]) -> None:
        size = receive(self._buffer, CHUNK, socket.MSG_TRUNC)
        if not size:
            raise ConnectionResetError("the stream ended")
        self._down += size


def up(address: Address, connections: int = 1) -> Bulk:
    """Send."""
    return Bulk(address, connections, up=True)


def down(address: Address, connections: int = 1) -> Bulk:
    """Receive."""
    return Bulk(address, connections, down=True)


def both(address: Address, connections: int = 1) -> Bulk:
    """Send and receive over the same connections."""
    return Bulk(address, connections, up=True, down=True)
