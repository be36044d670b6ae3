"""The server side: echo, discard, a stream of bytes, one answer, and "who am I", on one address or on all.

`python -m bench.load.server [ADDRESS]` prints "ready" when it listens. One process, one level-triggered epoll, no limits
of its own: it belongs behind a measurement, not on a network. The ports follow RFC 862 to 867 and 1288 plus 7000.
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

from bench.load import native
from bench.load.datagram_services import Discarded, echo, listen
from bench.load.generator import family
from bench.load.stream_services import Answer, Duplex, Echo, tell_names

if TYPE_CHECKING:
    from collections.abc import Callable

ECHO: Final = 7007
"""TCP and UDP: everything comes back."""
DISCARD: Final = 7009
"""TCP and UDP: nothing comes back. COUNTS tells how many datagrams came."""
COUNTS: Final = 7011
NAME: Final = 7013
STREAM: Final = 7019
"""Bytes without an end; what the client sends meanwhile is discarded."""
ANSWER: Final = 7079
"""One request comes back, and the server closes first."""
CHUNK: Final = 262144
BACKLOG: Final = 4096
EVENTS: Final = 256
ACCEPTS: Final = 64
"""Connections that are taken at a time."""

_BROKEN = select.EPOLLHUP | select.EPOLLERR


class Server:
    """Serves until the process ends. Handlers get the epoll mask; whoever raises OSError loses its connection."""

    def __init__(self, host: str = "") -> None:
        self._hosts = [host] if host else ["0.0.0.0", "::"]  # noqa: S104 - inside a namespace of its own
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._buffer = memoryview(bytearray(CHUNK))
        self._discarded = Discarded(self._buffer)
        welcomes = {
            ECHO: self._echo,
            DISCARD: self._discard,
            COUNTS: self._discarded.tell,
            NAME: tell_names,
            STREAM: self._stream,
            ANSWER: self._answer,
        }
        for port, welcome in welcomes.items():
            self._listen(port, welcome)
        self._listen_datagrams()

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
            sock = socket.create_server((host, port), family=family(host), backlog=BACKLOG)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(0)
            self._add(sock, select.EPOLLIN, partial(self._accept, sock, welcome))

    def _accept(self, listener: socket.socket, welcome: Callable[[socket.socket], None], _mask: int) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            for _ in range(ACCEPTS):
                sock, _address = listener.accept()
                sock.settimeout(0)
                welcome(sock)

    def _listen_datagrams(self) -> None:
        for host in self._hosts:
            echoing, discarding = listen(host, ECHO), listen(host, DISCARD)
            self._add(echoing, select.EPOLLIN, partial(echo, echoing.recvfrom_into, echoing.sendto, self._buffer))
            self._add(discarding, select.EPOLLIN, partial(self._discarded.take, discarding.recv_into))

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
        self._add(sock, select.EPOLLIN | select.EPOLLOUT, Duplex(sock, self._buffer).ready)

    def _answer(self, sock: socket.socket) -> None:
        self._add(sock, select.EPOLLIN, Answer(sock, self._buffer).ready)


def main(host: str = "") -> None:
    """Serve on one address, or on all, until killed."""
    native.become_server(host)
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
