"""What one sees while measurements run: a bar with the time left on a terminal, else a line per measurement."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

SAY_SECONDS: Final = 5.0


class Pace:
    """How long steps have taken so far, and so the time left. Its clock is the caller's: seconds."""

    def __init__(self, steps: int, now: float) -> None:
        self.steps = steps
        self.completed = 0
        self._began = self._last = now

    def done(self, steps: int, now: float) -> None:
        """Count steps that took their time."""
        self.completed += steps
        self._last = now

    def change(self, steps: int) -> None:
        """Take steps off that take no time after all (less than 0), or add some."""
        self.steps += steps

    def left(self, now: float) -> float | None:
        """Give the seconds left if all steps take as long as those so far did; None before the first one."""
        if not self.completed:
            return None
        each = (self._last - self._began) / self.completed
        return max(0.0, each * (self.steps - self.completed) - (now - self._last))


class Reporter:
    """Counts steps of a known number."""

    def __init__(self, steps: int, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._pace = Pace(steps, time.monotonic())
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Left(self._pace)
        self._progress = Progress(*columns, console=self._console, refresh_per_second=4, disable=not self._console.is_terminal)
        self._task = self._progress.add_task("", total=steps)
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
            self._line(what)

    def done(self, what: str, steps: int = 1) -> None:
        """Say what came out."""
        self._pace.done(steps, time.monotonic())
        self._progress.advance(self._task, steps)
        self._say(what)

    def left_out(self, what: str, steps: int) -> None:
        """Say why steps are not made: they took no time, so they do not count for the time left."""
        self.more(-steps)
        self._say(what)

    def more(self, steps: int) -> None:
        """Change the number of steps."""
        self._pace.change(steps)
        self._progress.update(self._task, total=self._pace.steps)

    def _say(self, what: str) -> None:
        if self._progress.disable:
            self._line(what)
        else:
            self._progress.console.print(what, highlight=False, markup=False)

    def _line(self, what: str) -> None:
        left = clock(self._pace.left(time.monotonic()))
        self._console.file.write(f"{self._pace.completed:3}/{self._pace.steps} {left} {what}\n")
        self._console.file.flush()


class _Left(ProgressColumn):
    """The time left, by the same count as in the lines."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        super().__init__()

    def render(self, task: Task) -> Text:  # noqa: ARG002 - rich asks with the task: there is one only
        return Text(clock(self._pace.left(time.monotonic())), style="progress.remaining")


def clock(seconds: float | None) -> str:
    """Write a time left: 1:02:03 left, 2:03 left; "-:-- left" while nobody knows."""
    if seconds is None:
        return "-:-- left"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"
