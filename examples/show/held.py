"""One connection that stays open: what becomes of it when its endpoint leaves the manifests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from examples.show.stage import TCP, Backend, CannotPlay, Stage
from examples.show.traffic import ask_on

if TYPE_CHECKING:
    import socket

    from examples.show.traffic import Traffic

SERVICE: Final = "web"
PAUSE_SECONDS: Final = 0.05
ATTEMPTS: Final = 50


class Held:
    """The connection. Its answers are counted apart: they are no new requests; its failure is a failure like any."""

    def __init__(self, sock: socket.socket, traffic: Traffic, backend: Backend) -> None:
        self._sock = sock
        self._traffic = traffic
        self.backend = backend
        self.answers = 0
        self.broken = False

    async def use(self) -> None:
        """Ask until cancelled, or until it breaks."""
        with self._sock:
            while not self.broken:
                try:
                    await ask_on(self._sock)
                except OSError as error:
                    self._traffic.failed(f"the open connection to {self.backend.name}: {error}")
                    self.broken = True
                else:
                    self.answers += 1
                    await asyncio.sleep(PAUSE_SECONDS)


async def hold(traffic: Traffic, stage: Stage, backend: Backend) -> Held:
    """Open connections until one is with that endpoint, and keep this one; raises CannotPlay if none is."""
    loop = asyncio.get_running_loop()
    for _ in range(ATTEMPTS):
        sock = stage.clients[0].make_socket(TCP)
        await loop.sock_connect(sock, stage.services[SERVICE])
        if (await ask_on(sock)).split()[0] == backend.name:
            return Held(sock, traffic, backend)
        sock.close()
    raise CannotPlay(f"of {ATTEMPTS} connections to {SERVICE} none is with {backend.name}")
