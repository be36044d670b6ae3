"""The bytes of netlink messages: headers, attributes, error reports (netlink(7), linux/netlink.h).

Pure: bytes in, bytes out. Knows no socket and no message family. Integers are in host order unless a name says otherwise.
Invariant: what `pack` and `attribute` make is aligned to 4 bytes, so pieces can be joined in any order.
"""

from __future__ import annotations

from cni_bridge.fast import Struct, posix

HEADER = Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
HEADER_BYTES = 16
U8 = Struct("=B")
U16 = Struct("=H")
U32 = Struct("=I")
I32 = Struct("=i")
BE16 = Struct("!H")
BE32 = Struct("!I")
BE64 = Struct("!Q")
ATTRIBUTE_BYTES = 4
_TWO_U16 = Struct("=HH")  # nlattr: length, type

REQUEST, MULTI, ACK = 0x1, 0x2, 0x4
DUMP_INTERRUPTED = 0x10
ROOT, MATCH = 0x100, 0x200
DUMP = ROOT | MATCH
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
CAPPED, ACK_TLVS = 0x100, 0x200  # flags of an NLMSG_ERROR

TYPE_ERROR, TYPE_DONE = 2, 3
ENOENT, ESRCH, EINTR, EEXIST, ENODEV = 2, 3, 4, 17, 19
"""asm-generic/errno-base.h, the same on every architecture. The module errno takes 0.05 ms to list the other 130."""
NESTED = 0x8000
TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_ACK_MESSAGE = 1  # NLMSGERR_ATTR_MSG
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class NetlinkError(Exception):
    """The kernel refused a request: number (errno), purpose (what was asked) and reason (its own words, if it had any)."""

    def __init__(self, number: int, purpose: str, reason: str = "") -> None:
        self.number = number
        self.purpose = purpose
        self.reason = reason
        words = posix.strerror(number)
        super().__init__(f"{purpose}: {reason} ({words})" if reason else f"{purpose}: {words}")


class Message:
    """One request: kind and flags of the header, body without it; errors in `tolerated` count as success.

    purpose: what it does in words, for error messages ("add address 10.1.0.5/16"). wants_ack: False for a question whose answer
    is one message, or an error: an acknowledgement would be one more to receive.
    """

    __slots__ = ("body", "flags", "kind", "purpose", "tolerated", "wants_ack")

    def __init__(self, kind: int, flags: int, body: bytes, purpose: str, tolerated: tuple[int, ...] = ()) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.purpose = purpose
        self.tolerated = tolerated
        self.wants_ack = True

    def pack(self, sequence: int, extra_flags: int = 0) -> bytes:
        """Give header and body as they are sent."""
        return HEADER.pack(HEADER_BYTES + len(self.body), self.kind, self.flags | extra_flags | REQUEST, sequence, 0) + self.body


def attribute(kind: int, payload: bytes) -> bytes:
    """Make one attribute (nlattr), padded to 4 bytes; its length field does not count the padding."""
    size = len(payload)
    return _TWO_U16.pack(4 + size, kind) + payload + _PADDING[size & 3]


def text(kind: int, value: str) -> bytes:
    """Make a NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    """Make an attribute of one byte."""
    return attribute(kind, U8.pack(value))


def u32(kind: int, value: int) -> bytes:
    """Make an attribute of four bytes."""
    return attribute(kind, U32.pack(value))


def be32(kind: int, value: int) -> bytes:
    """Make an attribute of four bytes in network order (all of nfnetlink)."""
    return attribute(kind, BE32.pack(value))


def attribute_list(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """Split attributes in their order, kinds without flag bits; what is cut short at the end is left out."""
    found = []
    end = len(data)
    while offset + ATTRIBUTE_BYTES <= end:
        size, kind = _TWO_U16.unpack_from(data, offset)
        if size < ATTRIBUTE_BYTES or offset + size > end:
            break
        found.append((kind & TYPE_MASK, data[offset + 4 : offset + size]))
        offset += (size + 3) & ~3
    return found


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Split attributes into a table; of a repeated kind the last one stays.

    As `attribute_list` does, in a loop of its own: an interface has 60 attributes, and an ADD reads four interfaces.
    """
    found = {}
    end = len(data)
    while offset + ATTRIBUTE_BYTES <= end:
        size, kind = _TWO_U16.unpack_from(data, offset)
        if size < ATTRIBUTE_BYTES or offset + size > end:
            break
        found[kind & TYPE_MASK] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def string(value: bytes) -> str:
    """Read a NUL-terminated string attribute."""
    return value.split(b"\0", 1)[0].decode(errors="replace")


def split(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Split what one receive gave into (kind, flags, sequence, payload)."""
    found = []
    offset = 0
    while offset + HEADER_BYTES <= len(data):
        size, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if size < HEADER_BYTES or offset + size > len(data):
            break
        found.append((kind, flags, sequence, data[offset + HEADER_BYTES : offset + size]))
        offset += (size + 3) & ~3
    return found


def error_of(flags: int, payload: bytes) -> tuple[int, str]:
    """Read an NLMSG_ERROR: (errno or 0, the kernel's words or empty).

    The words follow the refused request, of which a capped report holds only the header.
    """
    number = -I32.unpack_from(payload)[0]
    if not flags & ACK_TLVS:
        return number, ""
    offset = 4 + (HEADER_BYTES if flags & CAPPED else (U32.unpack_from(payload, 4)[0] + 3) & ~3)
    return number, string(attributes(payload, offset).get(_ACK_MESSAGE, b""))
