"""Bulk transfer over some connections, up (client sends) or down (client receives). Units are bytes."""

from __future__ import annotations

import select
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.load.generator import Address, Loop, Result, connect

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK: Final = 262144


class Up:
    """Sends as much as is taken; the other side must discard it."""

    def __init__(self, address: Address, connections: int = 1) -> None:
        self._bytes = 0
        self._loop = Loop()
        self._sockets = connect(address, connections)
        for sock in self._sockets:
            self._loop.add(sock.fileno(), select.EPOLLOUT, partial(self._send, sock.send))
        self._chunk = bytes(CHUNK)

    def run(self, until: float) -> None:
        """Send until then; raises OSError when a connection breaks."""
        self._loop.run(until)

    def reset(self) -> None:
        """Forget what has been counted."""
        self._bytes = 0

    def result(self, seconds: float) -> Result:
        """Tell what was sent: what waits in the kernel is counted, it is nothing beside the rest."""
        return Result(self._bytes, seconds, 0)

    def close(self) -> None:
        """Close every connection."""
        for sock in self._sockets:
            sock.close()
        self._loop.close()

    def _send(self, send: Callable[[bytes], int]) -> None:
        self._bytes += send(self._chunk)


class Down:
    """Receives as much as comes and lets the kernel throw it away (MSG_TRUNC, tcp(7))."""

    def __init__(self, address: Address, connections: int = 1) -> None:
        self._bytes = 0
        self._loop = Loop()
        self._buffer = bytearray(CHUNK)
        self._sockets = connect(address, connections)
        for sock in self._sockets:
            self._loop.add(sock.fileno(), select.EPOLLIN, partial(self._receive, sock.recv_into))

    def run(self, until: float) -> None:
        """Receive until then; raises OSError when a connection breaks."""
        self._loop.run(until)

    def reset(self) -> None:
        """Forget what has been counted."""
        self._bytes = 0

    def result(self, seconds: float) -> Result:
        """Tell what was received."""
        return Result(self._bytes, seconds, 0)

    def close(self) -> None:
        """Close every connection."""
        for sock in self._sockets:
            sock.close()
        self._loop.close()

    def _receive(self, receive: Callable[[bytearray, int, int], int]) -> None:
        size = receive(self._buffer, CHUNK, socket.MSG_TRUNC)
        if not size:
            raise ConnectionResetError("the stream ended")
        self._bytes += size
