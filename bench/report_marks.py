"""Numbers of a report as text, and what a difference between two of them is worth. Pure.

A difference within the greater of both half spreads is a tie: the runs themselves differ by as much.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bench.document import Value

EMPTY: Final = "-"


class Mark(Enum):
    """What a difference is: the character that stands for it."""

    BETTER = "+"
    WORSE = "!"
    TIE = "="


def mark(ours: Value, other: Value, *, higher_is_better: bool) -> Mark:
    """Compare two values of one figure."""
    if abs(ours.median - other.median) <= max(ours.half_spread, other.half_spread):
        return Mark.TIE
    return Mark.BETTER if (ours.median > other.median) == higher_is_better else Mark.WORSE


def number(value: float) -> str:
    """Write a number with three digits or so: 12,345, 123, 12.3, 1.23, 0.012."""
    return f"{value:,.{_decimals(value)}f}"


def short(value: float) -> str:
    """Write a number in little space: as number() does below 1,000, above it as 12.3k or 1.23M."""
    size, letter = next(((size, letter) for size, letter in ((1e6, "M"), (1e3, "k")) if abs(value) >= size), (1.0, ""))
    return f"{number(value / size)}{letter}"


def spread(value: Value) -> str:
    """Write a median and half the spread, both with the median's decimals."""
    return f"{number(value.median)} ±{value.half_spread:,.{_decimals(value.median)}f}"


def _decimals(value: float) -> int:
    size = abs(value)
    return next((decimals for least, decimals in ((100.0, 0), (10.0, 1), (0.1, 2)) if size >= least), 3 if size else 0)
