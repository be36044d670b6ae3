"""A netlink socket and the framing of its messages: header, attributes, acknowledgements, dumps.

Owns encoding and decoding of what all netlink families share (Linux: include/uapi/linux/netlink.h,
man 7 netlink), and turning the kernel's answers into NetlinkError. Must not know what a message means.
A socket belongs to one thread at a time; every exchange is answered or ends in NetlinkError after a timeout.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from uproxy.errors import RedirectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

REQUEST: Final = 0x1
ACK: Final = 0x4
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400
DUMP: Final = 0x300

NEEDS_NET_ADMIN: Final = "uproxy needs the capability CAP_NET_ADMIN in this network namespace: run it as root or grant it"

_ERROR: Final = 2
_DONE: Final = 3
_DUMP_INTERRUPTED: Final = 0x10
_ACK_TLVS: Final = 0x200
_ERROR_TEXT: Final = 1
_SOL_NETLINK: Final = 270
_CAP_ACK: Final = 10
_EXT_ACK: Final = 11
_STRICT_CHECK: Final = 12

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TYPE_MASK: Final = 0x3FFF
_RECEIVE_BYTES: Final = 1 << 18
# Messages per send: an error answers each one that fails, and 256 of those fit any socket's receive buffer.
_BATCH: Final = 256
# A dump that raced with a change is read again; the kernel says so by itself.
_DUMP_ATTEMPTS: Final = 5


class NetlinkError(RedirectError):
    """The kernel refused a message. number: the errno; index: the place of the refused message in its batch."""

    def __init__(self, number: int, text: str, index: int = 0) -> None:
        super().__init__(explain(number, text))
        self.number = number
        self.index = index


class Message(NamedTuple):
    """One received message. sender: the port of the socket whose request caused it; 0 for the kernel's own doing."""

    type: int
    flags: int
    sequence: int
    sender: int
    payload: bytes


def explain(number: int, text: str = "") -> str:
    """Put an errno of the kernel into one line, with the remedy where there is one."""
    line = f"the kernel refused: {os.strerror(number)}" + (f" ({text})" if text else "")
    remedies = {
        errno.EPERM: NEEDS_NET_ADMIN,
        errno.ENETDOWN: "bring the loopback device up: ip link set lo up",
    }
    return f"{line}; {remedies[number]}" if number in remedies else line


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute, padded to four bytes (man 3 rtnetlink)."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def attributes(payload: bytes, offset: int) -> dict[int, bytes]:
    """Decode the attributes that follow a fixed part of offset bytes; of repeated ones the last counts."""
    found: dict[int, bytes] = {}
    end = len(payload)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < 4:  # noqa: PLR2004 - an attribute's own header
            break
        found[kind & _TYPE_MASK] = payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterator[Message]:
    """Split what one recv gave into messages."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, sender = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield Message(kind, flags, sequence, sender, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


class NetlinkSocket:
    """Requests to the kernel over one socket; with-statement or close() ends it. Raises NetlinkError."""

    def __init__(self, protocol: int, timeout_seconds: float = 5.0) -> None:
        self._sequence = 0
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise NetlinkError(error.errno or 0, "opening a netlink socket") from error
        self._socket.settimeout(timeout_seconds)
        for option in (_CAP_ACK, _EXT_ACK, *((_STRICT_CHECK,) if protocol == NETLINK_ROUTE else ())):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self.port: int = self._socket.getsockname()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()

    def request(self, kind: int, payload: bytes, flags: int = 0) -> Message | None:
        """Send one message and give the answer, or None where there is nothing but the acknowledgement."""
        first = self._send([(kind, flags | REQUEST | ACK, payload)])
        found: Message | None = None
        for answer in self._received(first):
            # A GET is answered by the object and then by the acknowledgement.
            if answer.type == _ERROR:
                _raise_refusal(answer, 0)
                break
            found = answer
        return found

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """Give the payloads of all objects that the kernel lists."""
        for _ in range(_DUMP_ATTEMPTS):
            found, is_whole = self._dump_once(kind, payload)
            if is_whole:
                return found
        raise NetlinkError(errno.EINTR, "what was to be listed changed all the time")

    def _dump_once(self, kind: int, payload: bytes) -> tuple[list[bytes], bool]:
        """List once; False where something changed meanwhile, so that objects can be missing."""
        first = self._send([(kind, REQUEST | DUMP, payload)])
        found: list[bytes] = []
        is_whole = True
        for answer in self._received(first):
            is_whole = is_whole and not answer.flags & _DUMP_INTERRUPTED
            if answer.type in (_DONE, _ERROR):
                # The end of a listing states an errno like an error does: it may have been broken off.
                _raise_refusal(answer, 0)
                break
            found.append(answer.payload)
        return found, is_whole

    def batch(self, parts: Iterable[tuple[int, int, bytes]], tolerated: frozenset[int] = frozenset()) -> None:
        """Send many (type, flags, payload); errors in tolerated are passed over, the first other one is raised at the end of its send."""
        pending: list[tuple[int, int, bytes]] = []
        for part in parts:
            pending.append(part)
            if len(pending) == _BATCH:
                self._send_batch(pending, tolerated)
                pending = []
        if pending:
            self._send_batch(pending, tolerated)

    def transaction(self, begin: tuple[int, bytes], parts: Sequence[tuple[int, int, bytes]], end: tuple[int, bytes]) -> None:
        """Send parts as one nfnetlink transaction; the last part's acknowledgement ends it."""
        framed = [(begin[0], REQUEST, begin[1]), *((kind, flags | REQUEST, body) for kind, flags, body in parts)]
        kind, flags, body = framed[-1]
        framed[-1] = (kind, flags | ACK, body)
        first = self._send([*framed, (end[0], REQUEST, end[1])])
        self._await_last(first, first + len(framed) - 1, frozenset())

    def _send_batch(self, parts: list[tuple[int, int, bytes]], tolerated: frozenset[int]) -> None:
        framed = [(kind, flags | REQUEST, payload) for kind, flags, payload in parts]
        kind, flags, payload = framed[-1]
        framed[-1] = (kind, flags | ACK, payload)
        first = self._send(framed)
        self._await_last(first, first + len(framed) - 1, tolerated)

    def _await_last(self, first: int, last: int, tolerated: frozenset[int]) -> None:
        refused: NetlinkError | None = None
        for answer in self._received(first):
            if answer.type != _ERROR:
                continue
            try:
                _raise_refusal(answer, answer.sequence - first)
            except NetlinkError as error:
                if refused is None and error.number not in tolerated:
                    refused = error
            if answer.sequence >= last:
                break
        if refused is not None:
            raise refused

    def _send(self, parts: Sequence[tuple[int, int, bytes]]) -> int:
        """Frame the parts with numbers that follow each other, send them at once, give the first number."""
        first = self._sequence + 1
        self._sequence += len(parts)
        framed = bytearray()
        for number, (kind, flags, payload) in enumerate(parts, first):
            framed += _HEADER.pack(_HEADER.size + len(payload), kind, flags, number, 0) + payload + bytes(-len(payload) % 4)
        try:
            self._socket.send(framed)
        except OSError as error:
            raise NetlinkError(error.errno or errno.ETIMEDOUT, "sending to the kernel") from error
        return first

    def _received(self, first: int) -> Iterator[Message]:
        """Give what answers messages numbered first or later, for as long as the caller wants more."""
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError as error:
                raise NetlinkError(errno.ETIMEDOUT, "no answer to a netlink request") from error
            except OSError as error:
                raise NetlinkError(error.errno or 0, "reading the kernel's answer") from error
            for answer in messages(data):
                if answer.sequence >= first:
                    yield answer


def _raise_refusal(answer: Message, index: int) -> None:
    """Raise what an NLMSG_ERROR or NLMSG_DONE message says; 0 is an acknowledgement. After an error follows the refused header."""
    (negative,) = struct.unpack_from("=i", answer.payload)
    if negative == 0:
        return
    text = b""
    if answer.flags & _ACK_TLVS:
        text = attributes(answer.payload, 4 + (_HEADER.size if answer.type == _ERROR else 0)).get(_ERROR_TEXT, b"")
    raise NetlinkError(-negative, text.rstrip(b"\0").decode("utf-8", "replace"), index)
