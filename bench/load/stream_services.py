"""What the load's server does with one TCP connection: the handlers that its epoll calls.

Each raises OSError when the connection is over: the server closes it. They know nothing of listeners.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress

_BROKEN = select.EPOLLHUP | select.EPOLLERR


class Echo:
    """One echo connection: what could not be sent waits, and nothing is read meanwhile."""

    __slots__ = ("_buffer", "_descriptor", "_epoll", "_receive", "_send", "_waiting")

    def __init__(self, sock: socket.socket, epoll: select.epoll, buffer: memoryview) -> None:
        self._receive = sock.recv_into
        self._send = sock.send
        self._descriptor = sock.fileno()
        self._epoll = epoll
        self._buffer = buffer
        self._waiting = b""

    def ready(self, mask: int) -> None:
        """Answer what can be read, or send what waits."""
        if self._waiting:
            self._waiting = self._waiting[self._sent(self._waiting) :]
            if not self._waiting:
                self._epoll.modify(self._descriptor, select.EPOLLIN)
            return
        size = self._receive(self._buffer)
        if not size or mask & _BROKEN:
            raise ConnectionResetError
        sent = self._sent(self._buffer[:size])
        if sent < size:
            self._waiting = bytes(self._buffer[sent:size])
            self._epoll.modify(self._descriptor, select.EPOLLOUT)

    def _sent(self, data: bytes | memoryview) -> int:
        try:
            return self._send(data)
        except BlockingIOError:  # what was sent before has filled the socket's buffer to its last byte
            return 0


class Answer:
    """One request, which fits into one segment, is sent back; then the connection is over, before the client ends it."""

    __slots__ = ("_buffer", "_receive", "_send")

    def __init__(self, sock: socket.socket, buffer: memoryview) -> None:
        self._receive, self._send, self._buffer = sock.recv_into, sock.send, buffer

    def ready(self, _mask: int) -> None:
        """Answer and end."""
        self._send(self._buffer[: self._receive(self._buffer)])
        raise ConnectionAbortedError


class Duplex:
    """Sends without an end and discards what comes meanwhile, as a client without a receive window for it would block."""

    __slots__ = ("_buffer", "_receive", "_send", "_size")

    def __init__(self, sock: socket.socket, buffer: memoryview) -> None:
        self._receive, self._send = sock.recv_into, sock.send
        self._buffer, self._size = buffer, len(buffer)

    def ready(self, mask: int) -> None:
        """Do what can be done."""
        if mask & select.EPOLLIN and not self._receive(self._buffer, self._size, socket.MSG_TRUNC):
            raise ConnectionResetError
        if mask & _BROKEN:
            raise ConnectionResetError
        if mask & select.EPOLLOUT:
            self._send(self._buffer)


def tell_names(sock: socket.socket) -> None:
    """Tell a client both ends of its connection and close it."""
    with sock, suppress(OSError):
        sock.send(f"{sock.getsockname()[0]} {sock.getpeername()[0]}\n".encode())
