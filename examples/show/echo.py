"""One endpoint: answers each line (TCP) and each datagram (UDP) with its name and the address that asked.

`python -m examples.show.echo NAME ADDRESS PORT` serves until it is killed and prints "ready" when it does.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast


class Connection(asyncio.Protocol):
    """A TCP connection: a question is a line of a few bytes and comes in one piece."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are sent through."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each line."""
        peer = self._transport.get_extra_info("peername")
        if peer:
            self._transport.write(answer(self._name, peer[0]) * data.count(b"\n"))


class Datagrams(asyncio.DatagramProtocol):
    """The UDP socket."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are sent through."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - asyncio's signature
        """Answer a datagram."""
        self._transport.sendto(answer(self._name, addr[0]), addr)


def answer(name: str, peer: str) -> bytes:
    """Say who answers and whom it saw."""
    return f"{name} {peer}\n".encode()


async def serve(name: str, address: str, port: int) -> None:
    """Serve for ever; raises OSError when the address or port cannot be had."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(name), address, port)
    await loop.create_datagram_endpoint(lambda: Datagrams(name), (address, port))
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
