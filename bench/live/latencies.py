"""Latencies as a histogram that stays small however many there are: microseconds in buckets of under 1 % width. No I/O.

The idea is HdrHistogram's (http://hdrhistogram.org): within each power of two 128 buckets of the same width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

BITS: Final = 7
"""2^7 buckets within a power of two: a value is known to 1 in 128."""


class Bar(NamedTuple):
    """How many of the values are at most upto (microseconds), and more than the bar before it says."""

    upto: int
    values: int


class Latencies:
    """Whole microseconds. A bucket is only there if something is in it: 128 for each doubling at most."""

    __slots__ = ("_counts", "count", "greatest", "least", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = self.total = self.greatest = self.least = 0

    def add(self, seconds: float) -> None:
        """Count one."""
        value = max(1, round(1e6 * seconds))
        bucket = bucket_of(value)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.least = min(self.least, value) if self.count else value
        self.greatest = max(self.greatest, value)
        self.count += 1
        self.total += value

    def quantile(self, share: float) -> int:
        """Give the microseconds that this share (0 to 1) of all values does not exceed; 0 when there are none."""
        missing = share * self.count
        for bucket in sorted(self._counts):
            missing -= self._counts[bucket]
            if missing <= 0:
                return min(greatest_in(bucket), self.greatest)
        return self.greatest

    def bars(self) -> list[Bar]:
        """Give the values by 1, 2, 5, 10, 20, 50 ... microseconds: from the first bar that has some to the last one.

        A value that is less than 1 % below an edge may be counted above it.
        """
        edges = _edges()
        upto, count, found = next(edges), 0, list[Bar]()
        for bucket in sorted(self._counts):
            while greatest_in(bucket) > upto:
                found.append(Bar(upto, count))
                upto, count = next(edges), 0
            count += self._counts[bucket]
        found.append(Bar(upto, count))
        filled = [place for place, bar in enumerate(found) if bar.values]
        return found[filled[0] :] if filled else []


def bucket_of(value: int) -> int:
    """Give the bucket of a value of at least 1."""
    shift = max(0, value.bit_length() - BITS - 1)
    return (shift << BITS) + (value >> shift)


def greatest_in(bucket: int) -> int:
    """Give the greatest value that belongs into a bucket."""
    shift = max(0, (bucket >> BITS) - 1)
    return (((bucket - (shift << BITS)) + 1) << shift) - 1


def _edges() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10
