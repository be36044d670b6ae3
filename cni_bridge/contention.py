"""Waiting for a flock(2) that another process holds, with an end; and who that process is.

flock itself knows no timeout, and asking again and again would be polling: it is asked once more with a timer whose signal
interrupts the wait (setitimer(2); the handler's exception keeps the interpreter from going on waiting, PEP 475). Only a main
thread can do that, which a plugin's one thread is. Loaded by whoever found a lock taken.
"""

from __future__ import annotations

from fcntl import LOCK_EX, flock

from cni_bridge.fast import posix, signal

_AGAIN_SECONDS = 1
"""The timer goes on ringing: a first signal that came just before the call could not interrupt it."""


class TimeIsUp(Exception):
    """Whoever holds the lock did not let go."""


def wait(descriptor: int, seconds: float) -> None:
    """Take the lock when it is let go. Raises TimeIsUp."""
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        flock(descriptor, LOCK_EX)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # a signal that came between the two lines above leaves a second for the same here
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ring(_number: int, _frame: object) -> None:
    raise TimeIsUp


def holder(descriptor: int) -> str:
    """Name the process that holds a flock on the file, by /proc/locks (proc_locks(5))."""
    inode = posix.fstat(descriptor).st_ino
    with open("/proc/locks", encoding="ascii") as locks:  # noqa: PTH123 - pathlib costs more than a whole request
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
