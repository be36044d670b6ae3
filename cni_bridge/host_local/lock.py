"""The store's lock: the reference implementation's flock on the file `lock`, but with an end to waiting.

Owns the file's descriptor; knows nothing of what it guards. flock(2) itself knows no timeout, and asking again and
again would be polling: it is asked once without waiting, and when another holds the lock, once more with a timer whose
signal interrupts the wait (setitimer(2); the handler's exception keeps the interpreter from going on waiting, PEP 475).
Only a main thread can do that, which a plugin's one thread is.
"""

from __future__ import annotations

import fcntl

from cni_bridge.fast import posix, signal
from cni_bridge.protocol.errors import TRY_AGAIN_LATER, CniError

_MODE = 0o750  # the reference implementation's
_AGAIN_SECONDS = 1
"""The timer goes on ringing: a first signal that came just before the call could not interrupt it."""


class _TimeIsUp(Exception):
    """Raised by the signal's handler."""


def acquire(folder: int, path: str, seconds: float) -> int:
    """Take the lock and give the descriptor that holds it until it is closed.

    Raises CniError (11) that names the process which did not let go in time, and OSError when the file cannot be opened.
    """
    descriptor = posix.open("lock", posix.O_CREAT | posix.O_RDONLY | posix.O_CLOEXEC, _MODE, dir_fd=folder)
    try:
        _wait(descriptor, seconds)
    except _TimeIsUp:
        holder = _holder(posix.fstat(descriptor).st_ino)
        posix.close(descriptor)
        raise CniError(TRY_AGAIN_LATER, f"{path}/lock is held for more than {seconds:g} s by {holder}") from None
    except BaseException:
        posix.close(descriptor)
        raise
    return descriptor


def _wait(descriptor: int, seconds: float) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # a signal that came between the two lines above leaves a second for the same here
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _ring(_number: int, _frame: object) -> None:
    raise _TimeIsUp


def _holder(inode: int) -> str:
    """Name the process that holds a flock on the file, by /proc/locks (proc_locks(5))."""
    with open("/proc/locks", encoding="ascii") as locks:  # noqa: PTH123 - pathlib costs more than this whole run
        for line in locks:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return f"process {fields[4]} ({_name(fields[4])})"
    return "a process that this one cannot see"


def _name(process: str) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as comm:  # noqa: PTH123 - as above
            return comm.read().strip()
    except OSError:
        return "it has just ended"
