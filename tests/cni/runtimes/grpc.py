"""One unary gRPC call over a unix socket: HTTP/2 and protocol buffers, as far as a runtime's CRI needs them.

Owns frames and fields; knows no messages. Headers of the answer are not read, for they are compressed: a call that fails
is one without a message, and the server's own log says why. RFC 9113, RFC 7541, https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

Fields = dict[int, list[bytes | int]]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0x0, 0x1, 0x4, 0x6
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
STREAM: Final = 1
SECONDS: Final = 60
_VARINT, _BYTES = 0, 2
_FRAME: Final = struct.Struct(">BHBBI")
"""A frame's head: 24 bits of length, type, flags, stream."""
_MESSAGE: Final = struct.Struct(">BI")
"""Before each message: whether it is compressed, and its length."""


class Refused(Exception):
    """The server has answered without a message."""


def call(path: str, method: str, request: bytes) -> Fields:
    """Make one call on a connection of its own and give the answer's fields. Raises OSError and Refused."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(path)
        connection.sendall(PREFACE + _frame(SETTINGS, 0, 0, b""))
        connection.sendall(_frame(HEADERS, END_HEADERS, STREAM, _headers(method)))
        connection.sendall(_frame(DATA, END_STREAM, STREAM, _MESSAGE.pack(0, len(request)) + request))
        answer = _answer(connection)
    if not answer:
        raise Refused(f"{method}: refused; the server's log says why")
    return decode(answer[_MESSAGE.size :])


def _answer(connection: socket.socket) -> bytes:
    """Read the stream to its end; what the connection itself wants is answered by the way."""
    answer, flags, stream = b"", 0, 0
    with connection.makefile("rb") as reader:
        while not (stream == STREAM and flags & END_STREAM):
            high, low, kind, flags, stream = _FRAME.unpack(reader.read(_FRAME.size))
            payload = reader.read(high << 16 | low)
            if kind == DATA:
                answer += payload
            elif kind in {SETTINGS, PING} and not flags & ACK:
                connection.sendall(_frame(kind, ACK, 0, payload if kind == PING else b""))
    return answer


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _headers(method: str) -> bytes:
    """Give the request's headers, each written out in full (RFC 7541 6.2.2), all shorter than 127 bytes."""
    request = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "localhost"}
    said = {**request, "content-type": "application/grpc", "te": "trailers"}
    return b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in said.items())


def encode(fields: dict[int, str | int | bytes | list[bytes]]) -> bytes:
    """Write a message; a message within it is bytes, repeated ones are a list."""
    message = b""
    for number, value in fields.items():
        if isinstance(value, int):
            message += _varint(number << 3 | _VARINT) + _varint(value)
            continue
        for one in value if isinstance(value, list) else [value.encode() if isinstance(value, str) else value]:
            message += _varint(number << 3 | _BYTES) + _varint(len(one)) + one
    return message


def decode(message: bytes) -> Fields:
    """Read a message's fields of the two kinds that CRI has here: numbers, and bytes for everything else."""
    fields: Fields = {}
    place = 0
    while place < len(message):
        tag, place = _read_varint(message, place)
        value, place = _read_varint(message, place)
        if tag & 7 == _BYTES:
            fields.setdefault(tag >> 3, []).append(message[place : place + value])
            place += value
        else:
            fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
