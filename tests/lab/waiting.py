"""Waiting for what another process or the kernel does, where nothing announces it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
PAUSE_SECONDS = 0.01


def eventually(attempt: Callable[[], T], *, within: float = 5.0) -> T:
    """Repeat attempt until it neither raises AssertionError or OSError nor returns False; its last error is the test's.

    within: seconds. Returns what attempt returned.
    """
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() > deadline
        try:
            found = attempt()
        except (AssertionError, OSError):
            if late:
                raise
        else:
            if found is not False:
                return found
            assert not late, f"still not so after {within} s"
        time.sleep(PAUSE_SECONDS)
