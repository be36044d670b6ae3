"""The tree of uproxy's own errors, by whose fault it is and what to do.

    UproxyError
    +-- UsageError        the operator's mistake: a flag, a file, a field (exit 2, one line, no traceback)
    +-- ListenError       an address and port that cannot be bound (only that port is affected; retried)
    +-- RedirectError     the kernel refused our rules or routes (retried with back-off)
    +-- AlreadyRunning    another uproxy serves this network namespace (exit 2)
    +-- ApiError          an API server that cannot be had, or refuses (retried for ever): uproxy/sources/kubernetes/api_errors.py
"""


class UproxyError(Exception):
    """Root of everything that uproxy raises on purpose."""


class UsageError(UproxyError):
    """The operator's mistake: the message names the flag, file or field and what would be right."""


class ListenError(UproxyError):
    """An address that cannot be listened on: the message names it, the reason and the remedy."""


class RedirectError(UproxyError):
    """The kernel, or the program that talks to it, refused what a redirect back end asked for."""


class AlreadyRunning(UproxyError):
    """Another uproxy serves this network namespace: the message names its process id."""
