"""The time left is said wherever one watches, and follows from how long the steps so far took."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.progress import Pace, Reporter, clock


def test_nobody_knows_the_time_left_before_the_first_step_is_done() -> None:
    assert Pace(10, now=0.0).left(now=5.0) is None


def test_the_time_left_is_that_of_so_many_steps_as_those_that_were_done() -> None:
    pace = Pace(10, now=100.0)
    pace.done(2, now=108.0)

    assert pace.left(now=108.0) == pytest.approx(32.0)
    assert pace.left(now=111.0) == pytest.approx(29.0)
    assert pace.left(now=1000.0) == 0.0


def test_steps_that_are_left_out_take_no_time() -> None:
    pace = Pace(10, now=0.0)
    pace.done(1, now=2.0)
    pace.change(-4)

    assert pace.left(now=2.0) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-:-- left"), (0.0, "0:00 left"), (59.6, "1:00 left"), (125.0, "2:05 left"), (7325.0, "2:02:05 left")]
)
def test_a_time_left_is_written_as_a_clock_shows_it(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


def test_without_a_terminal_there_is_a_line_per_step_with_the_time_left() -> None:
    output = io.StringIO()
    with Reporter(3, Console(file=output)) as reporter:
        reporter.begin("first")
        reporter.done("first: 12 [k/s]")
        reporter.left_out("second: not here", 2)

    assert output.getvalue().splitlines() == ["  1/3 0:00 left first: 12 [k/s]", "  1/1 0:00 left second: not here"]


def test_a_terminal_shows_a_bar_and_what_came_out_above_it() -> None:
    output = io.StringIO()
    with Reporter(2, Console(file=output, force_terminal=True, width=100)) as reporter:
        reporter.begin("first")
        reporter.done("first: 12 [k/s]")

    assert "first: 12 [k/s]" in output.getvalue()
    assert "1/2" in output.getvalue()
    assert "left" in output.getvalue()
