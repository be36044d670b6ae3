"""Addresses of interfaces: adding, removing, listing (linux/if_addr.h, rtnetlink(7)).

Pure: gives requests, reads answers. An address is 4 or 16 bytes; its length tells the family.
"""

from __future__ import annotations

from cni_bridge.addresses import cidr_text
from cni_bridge.fast import Struct
from cni_bridge.netlink.message import CREATE, ENODEV, EXCLUSIVE, U32, Message, attribute, attributes

NEW, DELETE, GET = 20, 21, 22  # RTM_*ADDR
_ADDRESS = Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_ADDRESS_BYTES = 8
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
NODAD, DADFAILED, TENTATIVE = 0x02, 0x08, 0x40  # IFA_F_*
IPV4, IPV6 = 2, 10  # AF_INET, AF_INET6
IPV4_BYTES = 4


def family_of(address: bytes) -> int:
    """Give AF_INET or AF_INET6."""
    return IPV4 if len(address) == IPV4_BYTES else IPV6


class InterfaceAddress:
    """One address as the kernel lists it. flags: IFA_F_*."""

    __slots__ = ("address", "flags", "index", "prefix", "scope")

    def __init__(self, payload: bytes) -> None:
        _, self.prefix, flags, self.scope, self.index = _ADDRESS.unpack_from(payload)
        found = attributes(payload, _ADDRESS_BYTES)
        self.address = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b"")
        self.flags: int = U32.unpack(found[IFA_FLAGS])[0] if IFA_FLAGS in found else flags


def _body(index: int, address: bytes, prefix: int, flags: int = 0, broadcast: bytes = b"") -> bytes:
    head = _ADDRESS.pack(family_of(address), prefix, flags, 0, index)
    optional = attribute(IFA_BROADCAST, broadcast) if broadcast else b""
    return head + attribute(IFA_LOCAL, address) + optional + attribute(IFA_ADDRESS, address)


def add(index: int, address: bytes, prefix: int, *, broadcast: bytes = b"", nodad: bool = False) -> Message:
    """Ask for an address; IPv6 with nodad is usable at once. One that is there already is an error (EEXIST)."""
    body = _body(index, address, prefix, NODAD if nodad and family_of(address) == IPV6 else 0, broadcast)
    return Message(NEW, CREATE | EXCLUSIVE, body, f"add address {cidr_text(address, prefix)}")


def delete(index: int, address: bytes, prefix: int) -> Message:
    """Ask for removal; an address that is gone is no error."""
    import errno  # noqa: PLC0415 - few requests remove an address, and this takes 0.05 ms

    gone = (errno.EADDRNOTAVAIL, ENODEV)
    return Message(DELETE, 0, _body(index, address, prefix), f"remove address {cidr_text(address, prefix)}", gone)


def dump(index: int, family: int = 0) -> Message:
    """Ask for the addresses of one interface; kernels before 4.20 give those of all."""
    return Message(GET, 0, _ADDRESS.pack(family, 0, 0, 0, index), f"list addresses of interface {index}", (ENODEV,))


def of_interface(answers: list[bytes], index: int) -> list[InterfaceAddress]:
    """Read a dump: the addresses of that interface."""
    return [found for found in map(InterfaceAddress, answers) if found.index == index]
