"""The other side of a load generator under test: small servers on threads that know what really happened."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from bench.load.generator import family
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Address = tuple[str, int]


@contextmanager
def tcp_server(serve: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[Address]:
    """Run serve(connection) on a thread for each connection; when left, all of them have ended."""
    listener = socket.create_server((host, 0), family=family(host), backlog=256)
    threads: list[threading.Thread] = []

    def one(sock: socket.socket) -> None:
        with sock, suppress(ConnectionError):
            serve(sock)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _address = listener.accept()
                threads.append(threading.Thread(target=one, args=(sock,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[:2]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        listener.close()
        for thread in threads:
            thread.join()


@contextmanager
def udp_server(answer: Callable[[bytes], list[bytes]], host: str = "127.0.0.1", ports: list[int] | None = None) -> Iterator[Address]:
    """Answer each datagram with those that answer(datagram) gives; note the port that each came from."""
    sock = socket.socket(family(host), socket.SOCK_DGRAM)
    sock.bind((host, 0))
    seen = [] if ports is None else ports

    def serve() -> None:
        while True:
            datagram, address = sock.recvfrom(65536)
            if datagram == b"end":
                return
            seen.append(address[1])
            for reply in answer(datagram):
                sock.sendto(reply, address)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield sock.getsockname()[:2]
    finally:
        sock.sendto(b"end", sock.getsockname())
        thread.join()
        sock.close()


class Dropping:
    """Answers with the datagram itself, but drops every tenth."""

    def __init__(self) -> None:
        self.seen = self.dropped = 0

    def __call__(self, datagram: bytes) -> list[bytes]:
        """Give the answers to one datagram."""
        self.seen += 1
        dropped = self.seen % 10 == 0
        self.dropped += dropped
        return [] if dropped else [datagram]


def echo(sock: socket.socket) -> None:
    """Send everything back until the end."""
    while data := sock.recv(65536):
        sock.sendall(data)


def closed_port() -> Address:
    """Give an address that nobody listens on."""
    return "127.0.0.1", free_port()
