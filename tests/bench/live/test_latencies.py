"""Quantiles are right to 1 %, whatever the latencies are, and bars add up."""

from __future__ import annotations

from math import ceil

from hypothesis import example, given
from hypothesis import strategies as st

from bench.live.latencies import BITS, Bar, Latencies, bucket_of, greatest_in

MICROSECONDS = st.integers(1, 3_600_000_000)


def latencies(values: list[int]) -> Latencies:
    found = Latencies()
    for value in values:
        found.add(value / 1e6)
    return found


@given(MICROSECONDS)
@example(1)
@example(2 ** (BITS + 1) - 1)
@example(2 ** (BITS + 1))
def test_a_bucket_holds_its_values_and_is_narrow(value: int) -> None:
    greatest = greatest_in(bucket_of(value))

    assert value <= greatest <= value * (1 + 2**-BITS)
    assert bucket_of(greatest) == bucket_of(value)
    assert bucket_of(greatest + 1) == bucket_of(value) + 1


@given(st.lists(MICROSECONDS, min_size=1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_the_one_of_the_sorted_list(values: list[int], share: float) -> None:
    exact = sorted(values)[max(0, ceil(share * len(values)) - 1)]

    assert exact <= latencies(values).quantile(share) <= exact * (1 + 2**-BITS)


@given(st.lists(MICROSECONDS))
def test_bars_hold_every_value_once_and_begin_and_end_with_one(values: list[int]) -> None:
    bars = latencies(values).bars()

    assert sum(bar.values for bar in bars) == len(values)
    assert all(bars[place].values for place in (0, -1) if bars)
    assert [bar.upto for bar in bars] == sorted({bar.upto for bar in bars})


def test_bars_go_by_one_two_five() -> None:
    assert latencies([90, 100, 101, 1500]).bars() == [Bar(100, 2), Bar(200, 1), Bar(500, 0), Bar(1000, 0), Bar(2000, 1)]


def test_least_greatest_and_mean_are_exact() -> None:
    found = latencies([300, 123_457, 1])

    assert (found.least, found.greatest, found.total, found.count) == (1, 123_457, 123_758, 3)


def test_without_values_there_is_nothing_to_tell() -> None:
    assert Latencies().quantile(0.99) == 0
    assert Latencies().bars() == []
