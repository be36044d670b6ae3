"""What the load's server does with datagrams: it sends them back, or discards and counts them."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bench.load.generator import family

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Bytes, the most that Linux gives here: what is lost is to be lost before the server, not by it."""
AT_ONCE: Final = 64
"""Datagrams that are taken at a time."""


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that does not block, for one family."""
    sock = socket.socket(family(host), socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    if family(host) is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    sock.settimeout(0)
    return sock


def echo(receive: Callable[..., tuple[int, object]], send: Callable[..., int], buffer: memoryview, _mask: int) -> None:
    """Send back what has come."""
    with suppress(BlockingIOError, ConnectionRefusedError):
        for _ in range(AT_ONCE):
            size, address = receive(buffer)
            send(buffer[:size], address)


class Discarded:
    """Counts the datagrams that came."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._datagrams = 0

    def take(self, receive: Callable[[memoryview], int], _mask: int) -> None:
        """Throw away what has come. The kernel need not copy more than the first byte."""
        first = self._buffer[:1]
        taken = 0
        with suppress(BlockingIOError):
            for _ in range(AT_ONCE):
                receive(first)
                taken += 1
        self._datagrams += taken

    def tell(self, sock: socket.socket) -> None:
        """Tell a TCP client how many there have been since the server started, and close its connection."""
        with sock, suppress(OSError):
            sock.send(f"{self._datagrams}\n".encode())
