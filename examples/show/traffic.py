"""The clients: each asks each Service again and again, and every answer and failure is counted.

A TCP request is a connection of its own; a UDP request a socket of its own, sent again as every UDP client
does when no answer comes. Nothing is hidden: what fails is a failure, what was sent again is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from examples.show.stage import TCP, UDP, Address, Client

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Mapping

REQUEST_SECONDS: Final = 3.0
"""How long a request may take before it counts as failed."""
RESEND_SECONDS: Final = 0.25
"""How long a UDP client waits before it sends again."""
PAUSES: Final = {"web": 0.02, "cart": 0.03, "clock": 0.06}
"""Seconds between two requests of one client to a Service."""
UDP_SERVICES: Final = frozenset({"clock"})


class Answer(NamedTuple):
    """Who answered whom about which Service."""

    service: str
    client: str
    backend: str


@dataclass
class Tally:
    """What was counted. seen: client -> the addresses that endpoints saw it come from."""

    answers: Counter[Answer] = field(default_factory=Counter)
    seen: dict[str, set[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    sent_again: int = 0

    @property
    def requests(self) -> int:
        """Everything that was asked and has ended."""
        return self.answers.total() + len(self.failures)

    def by_backend(self, service: str) -> Counter[str]:
        """Count the answers about a Service by who gave them."""
        found: Counter[str] = Counter()
        for answer, count in self.answers.items():
            if answer.service == service:
                found[answer.backend] += count
        return found

    def backends_of(self, service: str, client: str) -> set[str]:
        """Name all that answered a client about a Service."""
        return {answer.backend for answer in self.answers if (answer.service, answer.client) == (service, client)}

    def answered(self, service: str, client: str, answer: str) -> None:
        """Count an answer: the endpoint's name and the address that it saw."""
        backend, _, address = answer.strip().partition(" ")
        self.answers[Answer(service, client, backend)] += 1
        if service not in UDP_SERVICES:
            self.seen.setdefault(client, set()).add(address)


class Traffic:
    """All requests of a demo. phase: counted since the last new_phase(); total: since the start."""

    def __init__(self, clients: tuple[Client, ...], services: Mapping[str, Address]) -> None:
        self._clients = clients
        self._services = services
        self._open = asyncio.Event()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._news = asyncio.Event()
        self.phase = Tally()
        self.total = Tally()

    def new_phase(self) -> None:
        """Count anew."""
        self.phase = Tally()

    async def run(self) -> None:
        """Ask until cancelled."""
        self._open.set()
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                for service in self._services:
                    group.create_task(self._ask_for_ever(client, service))

    @asynccontextmanager
    async def between_requests(self) -> AsyncIterator[None]:
        """Hold new requests back and wait until none is under way: what dies now takes no request with it."""
        self._open.clear()
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()
        try:
            yield
        finally:
            self._open.set()

    async def until_answered_by(self, backend: str, services: tuple[str, ...], seconds: float) -> float:
        """Wait until a backend has answered about each of these in this phase; give how long that took. Raises TimeoutError."""
        start = time.monotonic()
        async with asyncio.timeout(seconds):
            while not all(self.phase.by_backend(service)[backend] for service in services):
                self._news.clear()
                await self._news.wait()
        return time.monotonic() - start

    async def _ask_for_ever(self, client: Client, service: str) -> None:
        while True:
            await self._open.wait()
            self._under_way += 1
            try:
                await self._ask(client, service)
            finally:
                self._under_way -= 1
                if not self._under_way:
                    self._idle.set()
            await asyncio.sleep(PAUSES[service])

    async def _ask(self, client: Client, service: str) -> None:
        address = self._services[service]
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await (self._ask_udp(client, address) if service in UDP_SERVICES else _ask_tcp(client, address))
        except (OSError, TimeoutError) as error:
            self.failed(f"{client.name} -> {service}: {str(error) or type(error).__name__}")
        else:
            self.answered(service, client.name, answer)

    def answered(self, service: str, client: str, answer: str) -> None:
        """Count an answer."""
        for tally in (self.phase, self.total):
            tally.answered(service, client, answer)
        self._news.set()

    def failed(self, reason: str) -> None:
        """Count a failure."""
        for tally in (self.phase, self.total):
            tally.failures.append(reason)

    async def _ask_udp(self, client: Client, address: Address) -> str:
        loop = asyncio.get_running_loop()
        with client.make_socket(UDP) as sock:
            sock.connect(address)
            while True:
                try:
                    await loop.sock_sendall(sock, b"?\n")
                    async with asyncio.timeout(RESEND_SECONDS):
                        return (await loop.sock_recv(sock, 200)).decode()
                except TimeoutError:
                    for tally in (self.phase, self.total):
                        tally.sent_again += 1


async def _ask_tcp(client: Client, address: Address) -> str:
    loop = asyncio.get_running_loop()
    with client.make_socket(TCP) as sock:
        await loop.sock_connect(sock, address)
        return await ask_on(sock)


async def ask_on(sock: socket.socket) -> str:
    """Ask on a connection that is open; raises OSError."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"?\n")
    answer = await loop.sock_recv(sock, 200)
    if not answer.endswith(b"\n"):
        raise ConnectionResetError("the connection ended without an answer")
    return answer.decode()
