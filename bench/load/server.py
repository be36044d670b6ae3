"""The server side: echo, discard, a stream of bytes, and "who am I", on one address or on all.

`python -m bench.load.server [ADDRESS]` prints "ready" when it listens. One process, one level-triggered epoll, no limits
of its own: it belongs behind a measurement, not on a network. The ports follow RFC 862 to 864 plus 7000.
"""

from __future__ import annotations

import gc
import resource
import select
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ECHO: Final = 7007
DISCARD: Final = 7009
STREAM: Final = 7019
NAME: Final = 7013
CHUNK: Final = 262144
BACKLOG: Final = 4096
EVENTS: Final = 256
DATAGRAM_BUFFER: Final = 4 * 1024 * 1024

_BROKEN = select.EPOLLHUP | select.EPOLLERR


class Server:
    """Serves until the process ends. Handlers get the epoll mask; whoever raises OSError loses its connection."""

    def __init__(self, host: str = "") -> None:
        self._hosts = [host] if host else ["0.0.0.0", "::"]  # noqa: S104 - inside a namespace of its own
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._buffer = memoryview(bytearray(CHUNK))
        for port, welcome in ((ECHO, self._echo), (DISCARD, self._discard), (STREAM, self._stream), (NAME, self._name)):
            self._listen(port, welcome)
        self._listen_datagrams(ECHO)

    def serve(self) -> None:
        """Handle events for ever."""
        while True:
            self.turn()

    def turn(self, seconds: float | None = None) -> None:
        """Wait at most that long for events and handle them."""
        handlers = self._handlers
        for descriptor, mask in self._epoll.poll(seconds, EVENTS):
            handler = handlers.get(descriptor)
            if handler is None:
                continue
            try:
                handler(mask)
            except OSError:
                self._close(descriptor)

    def close(self) -> None:
        """Close everything."""
        for descriptor in list(self._sockets):
            self._close(descriptor)
        self._epoll.close()

    def _add(self, sock: socket.socket, mask: int, handler: Callable[[int], None]) -> None:
        self._sockets[sock.fileno()] = sock
        self._handlers[sock.fileno()] = handler
        self._epoll.register(sock.fileno(), mask)

    def _close(self, descriptor: int) -> None:
        self._handlers.pop(descriptor, None)
        self._sockets.pop(descriptor).close()

    def _listen(self, port: int, welcome: Callable[[socket.socket], None]) -> None:
        for host in self._hosts:
            sock = socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(0)
            self._add(sock, select.EPOLLIN, partial(self._accept, sock, welcome))

    def _accept(self, listener: socket.socket, welcome: Callable[[socket.socket], None], _mask: int) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            for _ in range(64):
                sock, _address = listener.accept()
                sock.settimeout(0)
                welcome(sock)

    def _listen_datagrams(self, port: int) -> None:
        for host in self._hosts:
            sock = socket.socket(_family(host), socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_BUFFER)
            if _family(host) is socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            sock.settimeout(0)
            self._add(sock, select.EPOLLIN, partial(self._echo_datagrams, sock.recvfrom_into, sock.sendto))

    def _echo_datagrams(self, receive: Callable[..., tuple[int, object]], send: Callable[..., int], _mask: int) -> None:
        buffer = self._buffer
        with suppress(BlockingIOError, ConnectionRefusedError):
            for _ in range(64):
                size, address = receive(buffer)
                send(buffer[:size], address)

    def _echo(self, sock: socket.socket) -> None:
        self._add(sock, select.EPOLLIN, Echo(sock, self._epoll, self._buffer).ready)

    def _discard(self, sock: socket.socket) -> None:
        receive, buffer = sock.recv_into, self._buffer

        def ready(mask: int) -> None:
            # MSG_TRUNC: the kernel throws the bytes away itself (tcp(7)), so that the load side copies nothing here.
            if not receive(buffer, CHUNK, socket.MSG_TRUNC) or mask & _BROKEN:
                raise ConnectionResetError

        self._add(sock, select.EPOLLIN, ready)

    def _stream(self, sock: socket.socket) -> None:
        send, chunk = sock.send, bytes(CHUNK)

        def ready(mask: int) -> None:
            if mask & _BROKEN:
                raise ConnectionResetError
            send(chunk)

        self._add(sock, select.EPOLLOUT, ready)

    @staticmethod
    def _name(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.send(f"{sock.getsockname()[0]} {sock.getpeername()[0]}\n".encode())


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


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
        """Answer what can be read, or send what waits; raises OSError at the connection's end."""
        if self._waiting:
            self._waiting = self._waiting[self._send(self._waiting) :]
            if not self._waiting:
                self._epoll.modify(self._descriptor, select.EPOLLIN)
            return
        size = self._receive(self._buffer)
        if not size or mask & _BROKEN:
            raise ConnectionResetError
        sent = self._send(self._buffer[:size])
        if sent < size:
            self._waiting = bytes(self._buffer[sent:size])
            self._epoll.modify(self._descriptor, select.EPOLLOUT)


def main(host: str = "") -> None:
    """Serve on one address, or on all, until killed."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server(host)
    gc.collect()
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:2])
