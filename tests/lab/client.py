"""What clients do: connections and datagrams from a host's namespace, in the test's own process."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from tests.lab.endpoint import PATTERN
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.topology import Host

PATIENCE: Final = 3.0
"""Seconds that a client waits for an answer: a lost SYN is sent again after one."""
POLLING: Final = 0.1
"""The same for an attempt that is repeated until it succeeds: quicker than the kernel's own retry."""

Protocol = Literal["TCP", "UDP"]


class Answer(NamedTuple):
    """What an endpoint said of itself and of the peer it saw."""

    name: str
    address: str
    port: int


def open_socket(host: Host, address: str, kind: socket.SocketKind, patience: float = PATIENCE) -> socket.socket:
    """Make a socket of the host's namespace, for the family of address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = host.namespace.call(socket.socket, family, kind)
    made.settimeout(patience)
    return made


def tcp(host: Host, address: str, port: int, patience: float = PATIENCE) -> socket.socket:
    """Connect; raises OSError (ConnectionRefusedError, TimeoutError ...)."""
    made = open_socket(host, address, socket.SOCK_STREAM, patience)
    try:
        made.connect((address, port))
    except BaseException:
        made.close()
        raise
    return made


def udp(host: Host, address: str, port: int, patience: float = PATIENCE) -> socket.socket:
    """Make a connected UDP socket, which hears of ICMP refusals."""
    made = open_socket(host, address, socket.SOCK_DGRAM, patience)
    try:
        made.connect((address, port))
    except BaseException:
        made.close()
        raise
    return made


def listen(host: Host, address: str, port: int) -> socket.socket:
    """Make a TCP listener inside host, for a test that plays the endpoint itself."""
    made = open_socket(host, address, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen()
    except BaseException:
        made.close()
        raise
    return made


def connect(host: Host, address: str, port: int, protocol: Protocol, patience: float = PATIENCE) -> socket.socket:
    """Make a connected socket of either protocol."""
    return (tcp if protocol == "TCP" else udp)(host, address, port, patience)


def who(conversation: socket.socket) -> Answer:
    """Ask the endpoint at the other end of an open conversation who it is and whom it sees."""
    stream = conversation.type == socket.SOCK_STREAM
    conversation.sendall(b"who\n" if stream else b"who")
    name, address, port = conversation.recv(256).decode().split()
    return Answer(name, address, int(port))


def ask(host: Host, address: str, port: int, protocol: Protocol = "TCP", patience: float = PATIENCE) -> Answer:
    """Connect, ask who is there, close."""
    with connect(host, address, port, protocol, patience) as conversation:
        return who(conversation)


def poll(host: Host, address: str, port: int, protocol: Protocol = "TCP", within: float = 5.0) -> Answer:
    """Ask until somebody answers; raises OSError if nobody has within so many seconds."""
    return eventually(partial(ask, host, address, port, protocol, POLLING), within=within)


def poll_refusal(host: Host, address: str, port: int, protocol: Protocol = "TCP", within: float = 5.0) -> None:
    """Ask until it is refused. The kernel refuses datagrams once a second, so one that is not answered is sent again."""
    eventually(partial(is_refused, host, address, port, protocol, POLLING), within=within)


def greeting(host: Host, address: str, port: int) -> str:
    """Hear what a server says that speaks first."""
    with tcp(host, address, port) as conversation:
        return conversation.recv(256).decode()


def round_trip(host: Host, address: str, port: int, payload: bytes) -> bytes:
    """Send one datagram and give the answer."""
    with udp(host, address, port) as conversation:
        conversation.send(payload)
        return conversation.recv(65536)


def is_refused(host: Host, address: str, port: int, protocol: Protocol = "TCP", patience: float = PATIENCE) -> bool:
    """Tell whether the address says no; False if it answers. Silence raises TimeoutError.

    A host's own datagrams are refused with EPERM, forwarded ones with an ICMP error.
    """
    try:
        ask(host, address, port, protocol, patience)
    except (ConnectionRefusedError, PermissionError):
        return True
    return False


def read_all(conversation: socket.socket) -> bytes:
    """Read to the end."""
    parts = []
    while part := conversation.recv(1 << 18):
        parts.append(part)
    return b"".join(parts)


def download(host: Host, address: str, port: int, size: int) -> bytes:
    """Have the endpoint send size bytes."""
    with tcp(host, address, port) as conversation:
        conversation.sendall(f"send {size}\n".encode())
        return read_all(conversation)


def upload(host: Host, address: str, port: int, data: bytes) -> str:
    """Send data, close this direction, and give what the endpoint counted: "BYTES SHA256"."""
    with tcp(host, address, port) as conversation:
        conversation.sendall(b"sink\n" + data)
        conversation.shutdown(socket.SHUT_WR)
        return read_all(conversation).decode().strip()


def half_closed_reply(host: Host, address: str, port: int, size: int) -> bytes:
    """Close the client's direction first, then read a reply of size bytes."""
    with tcp(host, address, port) as conversation:
        conversation.sendall(f"reply {size}\n".encode())
        conversation.shutdown(socket.SHUT_WR)
        return read_all(conversation)


def pattern(size: int) -> bytes:
    """Make the bytes that an endpoint sends when it is asked for size of them."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def is_ended(conversation: socket.socket) -> bool:
    """Tell whether the other side closes or resets within the client's patience, without sending anything."""
    try:
        return conversation.recv(16) == b""
    except ConnectionResetError:
        return True


@contextmanager
def measured() -> Iterator[list[float]]:
    """Measure how long the body took: the list holds the seconds afterwards."""
    taken: list[float] = []
    start = time.perf_counter()
    yield taken
    taken.append(time.perf_counter() - start)
