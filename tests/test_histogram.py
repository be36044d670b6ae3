"""Histograms of durations."""

from __future__ import annotations

from uproxy.histogram import Histogram


def test_a_duration_counts_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.2, 1.0, 1.1, 60.0):
        histogram.add(seconds)
    assert (histogram.counts, histogram.total) == ([2, 2, 2], 6)
    assert round(histogram.sum, 2) == 62.45
