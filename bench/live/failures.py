"""Why a unit has no right answer, in a few words that can be counted: one for each kind of error, never one per address."""

from __future__ import annotations

import errno
import os
from typing import Final

from bench.live.tally import LOST

WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ECONNABORTED: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "connection timed out",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.EADDRNOTAVAIL: "no free local port",
    errno.EAGAIN: "no free local port",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.EMSGSIZE: "datagram too long",
    errno.ENOBUFS: "no buffer space",
    errno.EACCES: "not permitted",
    errno.EPERM: "not permitted",
}


class Failure(Exception):
    """A unit without a right answer; its text is the reason."""


CLOSED: Final = "closed before the answer"
DIFFERENT: Final = "not what was sent"


def reason(error: Exception) -> str:
    """Give the words for an error."""
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return WORDS.get(error.errno) or os.strerror(error.errno).lower()
    if isinstance(error, TimeoutError):
        return LOST
    return type(error).__name__
