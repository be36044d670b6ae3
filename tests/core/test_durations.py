"""Durations as Go writes them."""

from __future__ import annotations

import pytest

from uproxy.core.durations import seconds_of

GOOD = {
    "0": 0.0,
    "0s": 0.0,
    "1ns": 1e-9,
    "3us": 3e-6,
    "3µs": 3e-6,
    "3μs": 3e-6,
    "250ms": 0.25,
    "30s": 30.0,
    "1.5s": 1.5,
    ".5s": 0.5,
    "1.s": 1.0,
    "1h30m": 5400.0,
    "1m1h": 3660.0,
    "0030s": 30.0,
}
BAD = ("", "30", "s", "1,5s", "1d", "-1s", "+1s", " 1s", "1s ", "1s\n", "1 s", "1e3s", "٣s", "30S", "1..5s", "infs", "1h" * 41)


@pytest.mark.parametrize(("text", "seconds"), GOOD.items(), ids=GOOD)
def test_what_go_reads_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_anything_else_is_told_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 250ms, 30s or 1h30m"):
        seconds_of(text)


def test_the_reason_does_not_repeat_a_long_text() -> None:
    with pytest.raises(ValueError, match="not a duration") as raised:
        seconds_of("9" * 100_000)
    assert len(str(raised.value)) < 200
