"""From a target's host to addresses of the kernel's, once, before anything is sent."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from bench.live.address import Target

SockAddr = tuple[str, int] | tuple[str, int, int, int]
Found = list[tuple[socket.AddressFamily, SockAddr]]


class Address(NamedTuple):
    """One address of the target's. sockaddr: as socket.connect takes it."""

    family: socket.AddressFamily
    sockaddr: SockAddr

    @property
    def host(self) -> str:
        """The IP address alone."""
        return self.sockaddr[0]


class Unresolved(Exception):
    """The host has no address that a load may go to, and why."""


def resolve(target: Target, seconds: float) -> list[Address]:
    """Give the addresses in the system's order of preference; raises Unresolved, after so many seconds at the latest.

    The resolver cannot be interrupted: it has a thread that dies with the process.
    """
    answers: SimpleQueue[Found | str] = SimpleQueue()
    threading.Thread(target=lambda: answers.put(_ask(target)), daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except Empty:
        raise Unresolved(f"ADDRESS {target}: looking up {target.host} took more than {seconds:g} s") from None
    if isinstance(found, str):
        raise Unresolved(f"ADDRESS {target}: {target.host} cannot be resolved ({found})")
    addresses = [Address(family, sockaddr) for family, sockaddr in found]
    for address in addresses:
        _refuse_groups(target, address.host)
    return addresses


def _ask(target: Target) -> Found | str:
    try:
        answers = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or "not a host name"
    return [(family, cast("SockAddr", sockaddr)) for family, _kind, _protocol, _name, sockaddr in answers]


def _refuse_groups(target: Target, host: str) -> None:
    """One datagram to a group is many at its members, and their answers many more."""
    if host == "255.255.255.255" or ip_address(host.partition("%")[0]).is_multicast:
        raise Unresolved(f"ADDRESS {target}: {host} is a group of receivers, name one of them")
