"""What a kind of traffic is for the rest: some lanes, each of which carries one unit at a time."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from bench.live.options import Options
    from bench.live.resolve import Address
    from bench.live.tally import Tally

NUMBER_BYTES: Final = 8


class Lane(Protocol):
    """One connection or flow, opened when it is first needed and again after a failure."""

    async def exchange(self, number: int) -> None:
        """Send unit so-and-so and wait for its answer; raises OSError, Failure. May be cancelled: a timeout does it."""

    def close(self) -> None:
        """Close the connection."""


class Site(NamedTuple):
    """What lanes are made for. addresses: of the target, the best one first."""

    options: Options
    addresses: list[Address]
    tally: Tally


def payload(number: int, size: int) -> bytes:
    """Give the bytes of a unit: its number, as much of it as fits, then zeros."""
    return number.to_bytes(NUMBER_BYTES, "big")[-size:] + bytes(max(0, size - NUMBER_BYTES))


def unconnected(address: Address, kind: socket.SocketKind) -> socket.socket:
    """Make a socket that an event loop can use; raises OSError."""
    sock = socket.socket(address.family, kind)
    sock.setblocking(False)  # noqa: FBT003 - not ours to change
    return sock
