"""What one sees while measurements run: a bar with the time left on a terminal, else a line per measurement."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

SAY_SECONDS: Final = 5.0


class Reporter:
    """Counts steps of a known number."""

    def __init__(self, steps: int) -> None:
        console = Console(file=sys.stderr)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=console, refresh_per_second=4, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=steps)
        self._steps, self._done = steps, 0
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, what: str) -> None:
        """Say what is being measured now."""
        self._progress.update(self._task, description=what)

    def going(self, what: str) -> None:
        """Say how far the step is that was begun; without a terminal every few seconds."""
        self._progress.update(self._task, description=what)
        now = time.monotonic()
        if self._progress.disable and now - self._said >= SAY_SECONDS:
            self._said = now
            print(f"{self._done:3}/{self._steps} {what}", file=sys.stderr, flush=True)

    def done(self, what: str, steps: int = 1) -> None:
        """Say what came out."""
        self._done += steps
        self._progress.advance(self._task, steps)
        if self._progress.disable:
            print(f"{self._done:3}/{self._steps} {what}", file=sys.stderr, flush=True)
        else:
            self._progress.console.print(what, highlight=False)
