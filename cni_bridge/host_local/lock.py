"""The store's lock: the reference implementation's flock on the file `lock`, but with an end to waiting.

Owns the file's descriptor; knows nothing of what it guards. It is asked for once without waiting, which nearly always does;
`contention` has the rest.
"""

from __future__ import annotations

from fcntl import LOCK_EX, LOCK_NB, flock

from cni_bridge.fast import posix
from cni_bridge.protocol.errors import TRY_AGAIN_LATER, CniError

_MODE = 0o750  # the reference implementation's


def acquire(folder: int, path: str, seconds: float) -> int:
    """Take the lock and give the descriptor that holds it until it is closed.

    Raises CniError (11) that names the process which did not let go in time, and OSError when the file cannot be opened.
    """
    descriptor = posix.open("lock", posix.O_CREAT | posix.O_RDONLY | posix.O_CLOEXEC, _MODE, dir_fd=folder)
    try:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            _wait(descriptor, path, seconds)
    except BaseException:
        posix.close(descriptor)
        raise
    return descriptor


def _wait(descriptor: int, path: str, seconds: float) -> None:
    from cni_bridge import contention  # noqa: PLC0415 - every import costs, and the lock is hardly ever held

    try:
        contention.wait(descriptor, seconds)
    except contention.TimeIsUp:
        holder = contention.holder(descriptor)
        raise CniError(TRY_AGAIN_LATER, f"{path}/lock is held for more than {seconds:g} s by {holder}") from None
