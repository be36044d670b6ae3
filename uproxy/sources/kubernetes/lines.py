"""A stream's chunks -> its lines: a watch sends one JSON value per line.

Owns cutting and the bound on a line's length. Pure: no I/O, no clock; must not know what a line says. Invariant:
the lines put together are the stream, whatever its chunks were; each byte is looked at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uproxy.sources.kubernetes.api_errors import Garbled, excerpt

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lines:
    """Cuts one stream. limit: the longest line in bytes; where: what is read, for errors."""

    def __init__(self, limit: int, where: str) -> None:
        self._limit = limit
        self._where = where
        self._begun: list[bytes] = []
        self._begun_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Give the lines that end in a chunk, without their newlines; empty ones are left out. Raises Garbled."""
        start, end = 0, chunk.find(b"\n")
        while end >= 0:
            line = self._finish(chunk[start:end])
            if line.strip():
                yield line
            start, end = end + 1, chunk.find(b"\n", end + 1)
        self._begin(chunk[start:])

    def end(self) -> None:
        """Take note that nothing more comes; raises Garbled when that is in the middle of a line."""
        rest = b"".join(self._begun)
        if rest.strip():
            raise Garbled(f"the stream ended within a line ({excerpt(rest)})", self._where)

    def _begin(self, rest: bytes) -> None:
        self._check(len(rest))
        if rest:
            self._begun.append(rest)
            self._begun_bytes += len(rest)

    def _finish(self, rest: bytes) -> bytes:
        self._check(len(rest))
        if not self._begun:
            return rest
        line = b"".join((*self._begun, rest))
        self._begun.clear()
        self._begun_bytes = 0
        return line

    def _check(self, more: int) -> None:
        if self._begun_bytes + more > self._limit:
            raise Garbled(f"a line is longer than {self._limit} bytes", self._where, "kubernetes.maxLineBytes is the limit")
