"""The PROXY protocol's header: what tells an endpoint whom the proxy speaks for. Bytes alone.

Owns both versions for TCP; must not know sockets. https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1
and 2.2. Invariant: a header has at most 107 bytes, so that it fits into the first segment of any path.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, ip_address
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_2_PROXY: Final = 0x21
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_PORTS: Final = struct.Struct(">HH")
_LENGTHS: Final = struct.Struct(">BBH")


def header(version: int, client: tuple[str, int], served: tuple[str, int]) -> bytes:
    """Make the header of version 1 or 2 from the address and port of the client and those that it connected to.

    Both addresses are of one family. A zone (fe80::1%eth0) is left out: the receiver could do nothing with it.
    """
    source, destination = (ip_address(address.partition("%")[0]) for address, _ in (client, served))
    four = isinstance(source, IPv4Address)
    if version == 1:
        return f"PROXY {'TCP4' if four else 'TCP6'} {source} {destination} {client[1]} {served[1]}\r\n".encode("ascii")
    body = source.packed + destination.packed + _PORTS.pack(client[1], served[1])
    return SIGNATURE + _LENGTHS.pack(_VERSION_2_PROXY, _TCP4 if four else _TCP6, len(body)) + body
