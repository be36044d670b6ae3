"""A bounded pool of pipes through which splice(2) moves bytes without copying them to this process.

Owns the pipes; must not know who uses them. Invariant: a pipe in the pool is empty; one that is given back
with bytes in it is closed, for they belong to a connection that is gone.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uproxy.dataplane.descriptors import Descriptors


class Pipe:
    """A pipe; held: the bytes in it."""

    __slots__ = ("held", "read", "write")

    def __init__(self, size: int) -> None:
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        with suppress(OSError):
            # Above the user's share (pipe-user-pages-soft, pipe(7)) the kernel's default size has to do.
            fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, size)

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read)
        os.close(self.write)


class Pipes:
    """The pool: at most `limit` pipes of `size` bytes exist at a time, in use or waiting."""

    def __init__(self, limit: int, size: int, descriptors: Descriptors) -> None:
        self._limit = limit
        self._size = size
        self._descriptors = descriptors
        self._idle: list[Pipe] = []
        self._existing = 0

    def __len__(self) -> int:
        return self._existing

    def take(self) -> Pipe | None:
        """Give an empty pipe; None when there are no more, or no descriptors for one. Each is given or dropped later."""
        if self._idle:
            return self._idle.pop()
        if self._existing >= self._limit or not self._descriptors.take(2):
            return None
        try:
            pipe = Pipe(self._size)
        except OSError:
            self._descriptors.give(2)
            return None
        self._existing += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """Take a pipe back: an empty one is kept, a dirty one closed."""
        if pipe.held:
            self._close(pipe)
        else:
            self._idle.append(pipe)

    def close(self) -> None:
        """Close every pipe that waits here."""
        while self._idle:
            self._close(self._idle.pop())

    def _close(self, pipe: Pipe) -> None:
        pipe.close()
        self._existing -= 1
        self._descriptors.give(2)
