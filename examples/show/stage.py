"""Where a demo plays: who serves, who asks, at which addresses, and the command that starts uproxy there."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Address = tuple[str, int]
EXAMPLES: Final = Path(__file__).resolve().parent.parent
PROJECT: Final = EXAMPLES.parent
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


class CannotPlay(Exception):
    """What keeps the demo from running here, in one line that says what to do."""


@dataclass(frozen=True)
class Backend:
    """An endpoint of all three Services. prefix: what to put before a command so that it runs where the endpoint is."""

    name: str
    address: str
    port: int
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True)
class Client:
    """Somebody who asks. make_socket gives a socket of the type TCP or UDP at the client's place."""

    name: str
    address: str
    make_socket: Callable[[int], socket.socket] = field(repr=False)


@dataclass(frozen=True)
class Stage:
    """Everything a story needs. services: name -> address; seen_as: client -> address that endpoints must see, where that is promised."""

    title: str
    manifests: Path
    services: Mapping[str, Address]
    backends: tuple[Backend, ...]
    newcomer: Backend
    clients: tuple[Client, ...]
    uproxy: tuple[str, ...]
    seen_as: Mapping[str, str] = field(default_factory=dict)
    next_steps: tuple[str, ...] = ()
