"""The other side of a load generator under test: small servers on threads that know what really happened."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Address = tuple[str, int]


@contextmanager
def tcp_server(serve: Callable[[socket.socket], None]) -> Iterator[Address]:
    """Run serve(connection) on a thread for each connection; when left, all of them have ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
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
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        listener.close()
        for thread in threads:
            thread.join()


@contextmanager
def udp_server(answer: Callable[[bytes], list[bytes]]) -> Iterator[Address]:
    """Answer each datagram with those that answer(datagram) gives."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            datagram, address = sock.recvfrom(65536)
            if datagram == b"end":
                return
            for reply in answer(datagram):
                sock.sendto(reply, address)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield sock.getsockname()
    finally:
        sock.sendto(b"end", sock.getsockname())
        thread.join()
        sock.close()


def closed_port() -> Address:
    """Give an address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: Address = listener.getsockname()
    return address
