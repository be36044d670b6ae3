"""How a measurement that needs root starts and ends: refused without, cleaned up after Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench.namespaces import remove_own
from bench.programs import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130
TOOLS: Final = ("ip", "nsenter", "setpriv", "taskset")
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_SECONDS: Final = 10.0
"""How long an interrupted measurement may clean up before it can be interrupted again."""


def guarded(name: str, work: Callable[[], int]) -> int:
    """Run work and give the exit code: its own, 2 without root or the tools that namespaces need, 130 when interrupted."""
    missing = [tool for tool in TOOLS if find(tool) is None]
    if os.geteuid() != 0:
        print(f"{name} needs root: it makes network namespaces", file=sys.stderr)
        return USAGE_ERROR
    if missing:
        print(f"{name} needs {', '.join(missing)} (Debian: iproute2, util-linux)", file=sys.stderr)
        return USAGE_ERROR
    with _interruptible():
        try:
            return work()
        except KeyboardInterrupt:
            remove_own()
            print("interrupted: processes have ended, namespaces are removed", file=sys.stderr)
            return INTERRUPTED


def unusable(name: str, error: OSError | ValueError) -> int:
    """Say which file a command cannot use and why, and give the exit code."""
    words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
    print(f"{name}: {words}", file=sys.stderr)
    return USAGE_ERROR


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let each signal raise KeyboardInterrupt until left, once: whoever is impatient must not interrupt the cleaning up.

    What was ignored from the start (nohup) stays ignored.
    """
    deaf_until = 0.0

    def interrupt(_signal: int, _frame: object) -> None:
        nonlocal deaf_until
        now = time.monotonic()
        if now >= deaf_until:
            deaf_until = now + PATIENCE_SECONDS
            raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
