"""What has happened so far: units, reasons of failures, bytes, latencies, and the last seconds one by one. No I/O.

Each unit that was begun is later answered, or failed for one reason, or was cut off by Ctrl-C: the counts add up.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final, NamedTuple

from bench.live.latencies import Latencies

REMEMBERED_SECONDS: Final = 60
LOST: Final = "no answer in time"
"""The reason of what was sent and never answered: for datagrams that is called lost."""


class Second(NamedTuple):
    """One second of the load. p99: microseconds of those answered in it, 0 without any."""

    sent: int
    answered: int
    failed: int
    p99: int


class Tally:
    """Counts. opened: connections or flows; stray: answers that nobody waited for."""

    def __init__(self) -> None:
        self.sent = self.answered = self.opened = self.stray = 0
        self.bytes_sent = self.bytes_received = 0
        self.reasons: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.latencies = Latencies()
        self.seconds: deque[Second] = deque(maxlen=REMEMBERED_SECONDS)
        self._recent = Latencies()
        self._before = (0, 0, 0)

    @property
    def failed(self) -> int:
        """How many had no right answer."""
        return self.reasons.total()

    @property
    def under_way(self) -> int:
        """How many are neither answered nor failed."""
        return self.sent - self.answered - self.failed

    def begin(self) -> None:
        """Count a unit that begins."""
        self.sent += 1

    def answer(self, seconds: float) -> None:
        """Count an answer, so long after its unit was due."""
        self.answered += 1
        self.latencies.add(seconds)
        self._recent.add(seconds)

    def fail(self, reason: str) -> None:
        """Count a failure."""
        self.reasons[reason] += 1

    def next_second(self) -> Second:
        """End the present second and give it."""
        counts = self.sent, self.answered, self.failed
        sent, answered, failed = (now - before for now, before in zip(counts, self._before, strict=True))
        second = Second(sent, answered, failed, self._recent.quantile(0.99))
        self._before, self._recent = counts, Latencies()
        self.seconds.append(second)
        return second
