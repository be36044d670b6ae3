"""What the UDP tests run: UDP endpoints in threads of their own, clients, and a way to hold the data plane's loop up."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

import pytest

from tests.dataplane.running import WAIT
from tests.lab.ports import free_port
from uproxy.core.balance import AffinityTable, Balancer
from uproxy.core.model import Endpoint, Protocol, RouteKey, ServicePortName
from uproxy.dataplane.context import Binding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.dataplane.running import RunningPlane

DNS = ServicePortName("kube-system", "dns", "dns", Protocol.UDP)
LARGEST4 = 65507
LARGEST6 = 65527


def has_ipv6() -> bool:
    """Tell whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="IPv6 is off on this machine")


def family(address: str) -> socket.AddressFamily:
    """Give the family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def same(data: bytes) -> Sequence[bytes]:
    """Answer a datagram with itself."""
    return [data]


def silence(data: bytes) -> Sequence[bytes]:  # noqa: ARG001 - the form of an answer
    """Answer nothing."""
    return []


class UdpServer:
    """A UDP endpoint that gives `answer(datagram)`, any number of datagrams, and keeps what came from whom."""

    def __init__(self, answer: Callable[[bytes], Sequence[bytes]] = same, address: str = "127.0.0.1", port: int = 0) -> None:
        self._answer = answer
        self.sock = socket.socket(family(address), socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.sock.bind((address, port))
        self.endpoint = Endpoint(address, self.sock.getsockname()[1])
        self.received: list[bytes] = []
        self.sources: list[tuple[str, int]] = []
        self._thread = threading.Thread(target=self._serve, name="udp endpoint")
        self._ending = False

    def _serve(self) -> None:
        while True:
            with suppress(ConnectionError):
                data, source = self.sock.recvfrom(1 << 16)
                if self._ending:
                    return
                self.received.append(data)
                self.sources.append(source[:2])
                for answer in self._answer(data):
                    self.sock.sendto(answer, source)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._ending = True
        with socket.socket(self.sock.family, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.sock.getsockname())
        self._thread.join(WAIT)
        self.sock.close()


def tagged(name: bytes) -> Callable[[bytes], Sequence[bytes]]:
    """Make an answer that says who gave it."""
    return lambda data: [name + b" " + data]


def balancer_of(plane: RunningPlane, *endpoints: Endpoint, affinity_seconds: int | None = None, name: ServicePortName = DNS) -> Balancer:
    """Make a balancer over these endpoints."""
    balancer = Balancer(name, plane.ejector, AffinityTable(1000), random.Random(7))
    balancer.set(endpoints, affinity_seconds)
    return balancer


def serve(plane: RunningPlane, balancer: Balancer, *, vip: str = "127.0.0.1", port: int = 0, keep: bool = False) -> RouteKey:
    """Open a UDP listener, on a free port if none is given."""
    key = RouteKey(vip, Protocol.UDP, port or free_port(vip, socket.SOCK_DGRAM))
    plane.call(lambda: plane.plane.open(Binding(key, key.port), balancer.service_port, balancer, keep_client_address=keep))
    return key


def change(plane: RunningPlane, key: RouteKey, balancer: Balancer, *endpoints: Endpoint) -> None:
    """Give a listener's balancer other endpoints, as a sync does."""

    def apply() -> None:
        balancer.set(endpoints, None)
        plane.plane.update(key, balancer, keep_client_address=False)

    plane.call(apply)


def client(key: RouteKey, source: str | None = None) -> socket.socket:
    """Make a client's socket, connected: it hears only what comes from the address that it sends to."""
    sock = socket.socket(family(key.vip), socket.SOCK_DGRAM)
    sock.settimeout(WAIT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if source:
        sock.bind((source, 0))
    sock.connect((key.vip, key.port))
    return sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    """Send a datagram and give the next one that comes."""
    sock.send(data)
    return sock.recv(1 << 16)


@contextmanager
def held_up(plane: RunningPlane) -> Iterator[None]:
    """Let the data plane's loop do nothing meanwhile, as a long computation would; afterwards it goes on."""
    holding, released = threading.Event(), threading.Event()

    def hold() -> None:
        holding.set()
        released.wait(WAIT)

    plane.loop.call_soon_threadsafe(hold)
    holding.wait(WAIT)
    try:
        yield
    finally:
        released.set()


def drops(plane: RunningPlane) -> dict[str, int]:
    """Give the datagrams dropped so far, by reason, the kernel's included."""

    def read() -> dict[str, int]:
        plane.plane.note_kernel_drops()
        return dict(plane.counters.datagrams_dropped)

    return plane.call(read)
