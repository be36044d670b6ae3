"""How a measurement that needs root starts and ends: refused without, cleaned up after Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130


def guarded(name: str, work: Callable[[], int]) -> int:
    """Run work and give the exit code: its own, 2 without root, 130 when interrupted."""
    if os.geteuid() != 0:
        print(f"{name} needs root: it makes network namespaces", file=sys.stderr)
        return USAGE_ERROR
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work()
    except KeyboardInterrupt:
        print("interrupted: processes have ended, namespaces are removed", file=sys.stderr)
        return INTERRUPTED


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
