"""A histogram of durations as plain integers: filled where something happens, read when somebody scrapes.

Knows nothing of metrics libraries.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Histogram:
    """Durations by bucket. limits: upper bounds in seconds, ascending; counts has one more entry, for longer ones."""

    __slots__ = ("counts", "limits", "sum")

    def __init__(self, limits: Sequence[float]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.limits, seconds)] += 1
        self.sum += seconds

    @property
    def total(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)
