"""When units fall due, and which of them are given up because nobody could send them in time. No I/O, no clock.

Unit n falls due n / rate seconds after the start. One that nothing was free to send is sent up to LATE_SECONDS later, in
its turn, and not at all after that: so in no window of w seconds are more than rate * (w + LATE_SECONDS) + 1 sent, and
a target that stood still meets no flood when it goes on.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

LATE_SECONDS: Final = 0.1
"""Longer than a pause of this program's own loop usually is (garbage collection, a busy CPU: up to 30 ms)."""
ROUNDING: Final = 1e-9
"""Of rate times duration: 0.1 * 30 must be 3 units and not 4."""


class Unit(NamedTuple):
    """What is to be sent. due: seconds since the start."""

    number: int
    due: float


class Schedule:
    """Gives units out in their order. busy: given up as nothing was free; late: given up as this program was too slow."""

    def __init__(self, rate: float, duration: float) -> None:
        self.total = max(1, ceil(rate * duration - ROUNDING))
        self.busy = 0
        self.late = 0
        self._rate = rate
        self._next = 0

    def take(self, now: float, idle_since: float) -> Unit | None:
        """Give the next unit, perhaps one that is not due yet; None when there are no more.

        now, idle_since: seconds since the start; who asks has been ready to send since then.
        """
        self._give_up(self._due_before(now - LATE_SECONDS), idle_since)
        if self._next >= self.total:
            return None
        unit = Unit(self._next, self._next / self._rate)
        self._next += 1
        return unit

    def stop(self, now: float) -> None:
        """Nobody will take any more: what has been due until now was not sent because nothing was free."""
        self._give_up(self._due_before(now), idle_since=now)

    def _due_before(self, seconds: float) -> int:
        return min(self.total, max(0, ceil(seconds * self._rate)))

    def _give_up(self, until: int, idle_since: float) -> None:
        """Skip the units before number until."""
        missed = max(0, until - self._next)
        busy = min(missed, max(0, self._due_before(idle_since) - self._next))
        self.busy += busy
        self.late += missed - busy
        self._next += missed
