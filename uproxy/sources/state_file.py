"""The bytes of the last known state: what a file of it holds, and telling a whole one from anything else.

Owns the format; must not know files, clocks or the loop. Whatever read() gives is what write() was given, bit for
bit; everything else is Unreadable. The preamble (big-endian) is the same in all formats, for ever:

    magic, 13 bytes | SHA-256 of all that follows, 32 | format, 4 | bytes of the header, 4 | bytes of the body, 8
    header: MessagePack of Header
    body: zlib of batches, each its length in 4 bytes and MessagePack of one of the tagged structs below
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Struct

from uproxy.core.model import EndpointSlice, KubernetesObject, Node, Service
from uproxy.errors import UproxyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from uproxy.core.state import State

T = TypeVar("T")

FORMAT: Final = 1
READABLE: Final = frozenset({1})
"""The formats that are read. FORMAT goes up when the model's fields change; a former one stays here while defaults bridge the change."""

MAGIC: Final = b"uproxy state\n"
_PREAMBLE: Final = struct.Struct(f">{len(MAGIC)}s32sIIQ")
_DIGESTED: Final = len(MAGIC) + 32
"""Where that begins of which the digest is."""
_LENGTH: Final = struct.Struct(">I")

BATCH: Final = 500
"""Objects and endpoints that are encoded at a time: 0.3 ms in which no other thread runs Python."""
LEVEL: Final = 1
"""How hard zlib tries. 20,000 objects of 4 MB come to 0.2 MB within 10 ms; level 6 takes three times as long for a tenth less."""


class Fault(StrEnum):
    """What can be wrong with a file; the word is part of its name once it is put aside."""

    DAMAGED = "damaged"
    NEWER = "newer"
    OLDER = "older"


class Unreadable(UproxyError):
    """Bytes that are no state of a format that is read: which fault, and the reason in words."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason


class Header(Struct, frozen=True, gc=False):
    """Whose state it is, and when it was the state. saved: Unix seconds. service_proxy_name: which Services were selected."""

    saved: float
    node: str
    service_proxy_name: str


class _Services(Struct, frozen=True, gc=False, tag_field="kind", tag="Service"):
    objects: tuple[Service, ...]


class _Slices(Struct, frozen=True, gc=False, tag_field="kind", tag="EndpointSlice"):
    objects: tuple[EndpointSlice, ...]


class _Nodes(Struct, frozen=True, gc=False, tag_field="kind", tag="Node"):
    objects: tuple[Node, ...]


_ENCODER: Final = msgspec.msgpack.Encoder()
_HEADER: Final = msgspec.msgpack.Decoder(Header)
_BATCH: Final = msgspec.msgpack.Decoder(_Services | _Slices | _Nodes)


def write(header: Header, state: State, breathe: Callable[[], None]) -> bytes:
    """Make the bytes of a state, calling breathe() between the batches, so that other threads may run."""
    compressor = zlib.compressobj(LEVEL)
    parts = []
    for batch in encode(state):
        parts.append(compressor.compress(_LENGTH.pack(len(batch)) + batch))
        breathe()
    parts.append(compressor.flush())
    return seal(FORMAT, _ENCODER.encode(header), b"".join(parts))


def encode(state: State) -> Iterator[bytes]:
    """Give a state's objects as encoded batches."""
    for services in _batches(state.services.values(), lambda _: 1):
        yield _ENCODER.encode(_Services(services))
    slices = chain.from_iterable(found.values() for found in state.slices.values())
    for some in _batches(slices, lambda one: 1 + len(one.endpoints)):
        yield _ENCODER.encode(_Slices(some))
    for nodes in _batches(state.nodes.values(), lambda _: 1):
        yield _ENCODER.encode(_Nodes(nodes))


def seal(number: int, head: bytes, body: bytes) -> bytes:
    """Put the preamble of format `number` before header and body."""
    unsealed = _PREAMBLE.pack(MAGIC, b"", number, len(head), len(body)) + head + body
    digest = hashlib.sha256(memoryview(unsealed)[_DIGESTED:]).digest()
    return MAGIC + digest + unsealed[_DIGESTED:]


def read(raw: bytes) -> tuple[Header, tuple[KubernetesObject, ...]]:
    """Give the header and the objects; raises Unreadable. 20,000 objects take 60 ms."""
    head, body = _open(raw)
    try:
        return _HEADER.decode(head), tuple(_objects(zlib.decompress(body)))
    except (msgspec.DecodeError, zlib.error, struct.error) as error:  # whole, but written by an uproxy that is not this one
        raise Unreadable(Fault.DAMAGED, f"does not fit format {FORMAT}: {error}") from error


def _open(raw: bytes) -> tuple[bytes, memoryview]:
    """Check everything that the preamble says and give header and body."""
    if len(raw) < _PREAMBLE.size:
        raise Unreadable(Fault.DAMAGED, f"is cut short: {len(raw)} bytes")
    magic, digest, number, head_size, body_size = _PREAMBLE.unpack_from(raw)
    if magic != MAGIC:
        raise Unreadable(Fault.DAMAGED, "is no state of uproxy's")
    whole = _PREAMBLE.size + head_size + body_size
    if len(raw) < whole:
        raise Unreadable(Fault.DAMAGED, f"is cut short: {len(raw)} of {whole} bytes")
    if hashlib.sha256(memoryview(raw)[_DIGESTED:]).digest() != digest:
        raise Unreadable(Fault.DAMAGED, "does not match its checksum")
    if number not in READABLE:
        fault = Fault.NEWER if number > FORMAT else Fault.OLDER
        raise Unreadable(fault, f"has format {number}, and this version reads {', '.join(map(str, sorted(READABLE)))}")
    middle = _PREAMBLE.size + head_size
    return raw[_PREAMBLE.size : middle], memoryview(raw)[middle:whole]


def _objects(batches: bytes) -> Iterator[KubernetesObject]:
    place, end = 0, len(batches)
    view = memoryview(batches)
    while place < end:
        (size,) = _LENGTH.unpack_from(batches, place)
        place += _LENGTH.size
        yield from _BATCH.decode(view[place : place + size]).objects
        place += size


def _batches(objects: Iterable[T], weigh: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """Cut into tuples that weigh about BATCH each."""
    batch: list[T] = []
    weight = 0
    for each in objects:
        batch.append(each)
        weight += weigh(each)
        if weight >= BATCH:
            yield tuple(batch)
            batch, weight = [], 0
    if batch:
        yield tuple(batch)
