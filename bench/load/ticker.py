"""A descriptor that becomes readable at a fixed rate (timerfd_create(2)): what paces a load that does not wait for answers.

An epoll timeout has steps of 1 ms, and a loop that looks at the clock all the time takes the CPU from the server beside it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Final

_LIBC = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE: Final = 1
_NANO: Final = 1_000_000_000
_COUNTER_BYTES: Final = 8


class _Spec(ctypes.Structure):
    """struct itimerspec: the period, then the first expiry, each in seconds and nanoseconds."""

    _fields_ = (("every", ctypes.c_long * 2), ("first", ctypes.c_long * 2))


class Ticker:
    """Ticks of CLOCK_MONOTONIC, which is time.perf_counter()'s on Linux. It does not block."""

    def __init__(self, every_ns: int) -> None:
        self.every_ns = every_ns
        self.descriptor: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def start(self, first_ns: int) -> None:
        """Tick at that moment and periodically after it."""
        self._set(_Spec(every=divmod(self.every_ns, _NANO), first=divmod(first_ns, _NANO)))

    def stop(self) -> None:
        """Tick no more."""
        self._set(_Spec())

    def ticks(self) -> int:
        """Give how many there have been since the last call; raises BlockingIOError if none."""
        return int.from_bytes(os.read(self.descriptor, _COUNTER_BYTES), sys.byteorder)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def _set(self, spec: _Spec) -> None:
        if _LIBC.timerfd_settime(self.descriptor, _ABSOLUTE, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")
