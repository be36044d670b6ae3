"""The server program behind the lab's Services: `python -m tests.lab.endpoint PLACE...`.

One process serves many places, each `NAMESPACE,NAME,ADDRESS,PORT`, with TCP and UDP on PORT and a TCP server
that speaks first on PORT + 1. It writes "ready" when all of them listen and ends when its stdin does.

TCP: the first line says what to do.
    who       answer "NAME PEER-ADDRESS PEER-PORT", for every such line
    echo      send everything that follows back
    send N    send N bytes of PATTERN, then close this direction
    sink      read to the end, then answer "BYTES SHA256" and close
    reply N   read to the end, then send N bytes of PATTERN and close
    reset     send a TCP reset
    PROXY     the header of the PROXY protocol, version 1: whom "who" is answered for from then on
UDP: "who" is answered as above, anything else with itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import uvloop

from tests.lab.namespaces import enter

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERN: Final = bytes(range(251)) * 261
"""What bulk data repeats: 65,511 bytes, no multiple of any buffer's size."""
SPEAKS_FIRST: Final = 1
"""The server that speaks first listens this many ports above the other."""


class Place(NamedTuple):
    """Where to serve, and under which name."""

    namespace: str
    name: str
    address: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read NAMESPACE,NAME,ADDRESS,PORT."""
        namespace, name, address, port = text.split(",")
        return cls(namespace, name, address, int(port))

    def open(self, kind: socket.SocketKind, port: int) -> socket.socket:
        """Bind a socket here; the calling thread stays in the namespace."""
        enter(self.namespace)
        opened = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind is socket.SOCK_STREAM)
        opened.settimeout(0)
        opened.bind((self.address, port))
        return opened


class Conversation(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, name: str, greeting: bytes = b"") -> None:
        self._name, self._greeting = name, greeting
        self._line = b""
        self._take: Callable[[bytes], None] = self._command
        self._finish: Callable[[], None] = self._close
        self._through: tuple[str, int] | None = None
        self._owed = 0
        self._paused = False
        self._taken, self._digest = 0, hashlib.sha256()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, where this server speaks first."""
        self._transport = cast("asyncio.Transport", transport)
        if self._greeting:
            self._transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        """Do what the first line said with what follows it."""
        self._take(data)

    def eof_received(self) -> bool:
        """Answer what waits for the client's end; the connection stays open until that is sent."""
        self._finish()
        return True

    def pause_writing(self) -> None:
        """Stop producing: the client reads slowly."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on producing."""
        self._paused = False
        self._send()

    def _close(self) -> None:
        self._transport.close()

    def _command(self, data: bytes) -> None:
        self._line += data
        while self._take == self._command and b"\n" in self._line:
            line, _, self._line = self._line.partition(b"\n")
            if line.startswith(b"PROXY "):
                self._through = line.split()[2].decode(), int(line.split()[4])
                continue
            verb, _, number = line.decode().partition(" ")
            getattr(self, f"_do_{verb}")(int(number or 0))
        if self._take != self._command and self._line:
            rest, self._line = self._line, b""
            self._take(rest)

    def _do_who(self, _: int) -> None:
        self._transport.write(identity(self._name, self._through or self._transport.get_extra_info("peername")))

    def _do_echo(self, _: int) -> None:
        self._take = self._transport.write

    def _do_sink(self, _: int) -> None:
        self._take, self._finish = self._count, self._tell

    def _do_send(self, size: int) -> None:
        self._owed = size
        self._send()

    def _do_reply(self, size: int) -> None:
        self._take = self._count
        self._finish = lambda: self._do_send(size)

    def _do_reset(self, _: int) -> None:
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _count(self, data: bytes) -> None:
        self._taken += len(data)
        self._digest.update(data)

    def _tell(self) -> None:
        self._transport.write(f"{self._taken} {self._digest.hexdigest()}\n".encode())
        self._transport.close()

    def _send(self) -> None:
        while self._owed and not self._paused:
            part = PATTERN[: self._owed]
            self._owed -= len(part)
            self._transport.write(part)
            if not self._owed:
                self._transport.write_eof()


def identity(name: str, peer: tuple[str, int]) -> bytes:
    """Make the answer to "who"."""
    return f"{name} {peer[0]} {peer[1]}\n".encode()


def answer_datagrams(opened: socket.socket, name: str) -> None:
    """Answer one datagram: the loop calls again while there are more."""
    data, peer = opened.recvfrom(65536)
    try:
        opened.sendto(identity(name, peer) if data == b"who" else data, peer)
    except OSError as error:
        sys.stderr.write(f"{name}: {error}\n")


async def serve(place: Place) -> None:
    """Open everything of one place."""
    loop = asyncio.get_running_loop()
    plain, first = (place.open(socket.SOCK_STREAM, place.port + offset) for offset in (0, SPEAKS_FIRST))
    await loop.create_server(lambda: Conversation(place.name), sock=plain, backlog=4096)
    greeting = f"hello from {place.name}\n".encode()
    await loop.create_server(lambda: Conversation(place.name, greeting), sock=first)
    datagrams = place.open(socket.SOCK_DGRAM, place.port)
    loop.add_reader(datagrams, answer_datagrams, datagrams, place.name)


async def main(places: list[str]) -> None:
    """Serve all places until stdin ends."""
    ended = asyncio.Event()
    for text in places:
        await serve(Place.parse(text))
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
