"""Plots can be read: no word covers another one or leaves the picture, however long the names and however close the points."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from bench.plot_style import STYLE
from bench.plots import Bar, Line, Point, Range, bars, latency, lines, plane
from bench.subjects import SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

TITLES: Final = [(subject.title, subject.role) for subject in SUBJECTS.values()]
SLACK: Final = 1.0
"""Pixels by which boxes may touch: they have a margin of their own."""


def texts(figure: Figure) -> Iterator[Text]:
    """Give what is written; ticks outside of the axis' limits are not."""
    yield from figure.texts
    for axes in figure.axes:
        yield from axes.texts
        for axis in (axes.xaxis, axes.yaxis):
            least, most = axis.get_view_interval()
            yield axis.label
            yield from (tick.label1 for tick in axis.get_major_ticks() if least <= tick.get_loc() <= most)


def boxes(figure: Figure) -> dict[str, Bbox]:
    """Give the place of each text, in pixels."""
    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure)  # makes itself the figure's canvas
        figure.draw_without_rendering()
        # Text's own: an annotation's has its line to the point in it.
        written = [text for text in texts(figure) if text.get_text()]
        return {f"{number}: {text.get_text()}": Text.get_window_extent(text) for number, text in enumerate(written)}


def overlap(one: Bbox, other: Bbox) -> bool:
    wide = float(min(one.x1, other.x1) - max(one.x0, other.x0))
    high = float(min(one.y1, other.y1) - max(one.y0, other.y0))
    return min(wide, high) > SLACK


FIGURES: Final = {
    "bars": lambda: bars(
        "requests of 64 KiB, 32 connections, IPv6",
        "context switches per connection",
        "Gbit/s",
        [Bar(title, role, [12000.0, 12345.6, 12400.0], 12345.6, "1.11x") for title, role in TITLES],
        higher_is_better=True,
    ),
    "latency over four decades": lambda: latency("storm", [Range(title, role, (24.5, 12345.6, 203562.0)) for title, role in TITLES]),
    "latency over two decades": lambda: latency("storm", [Range(title, role, (755.0, 12724.0, 40906.0)) for title, role in TITLES]),
    "latency over one decade": lambda: latency("storm", [Range(title, role, (755.0, 4724.0, 8906.0)) for title, role in TITLES]),
    "latency of no spread": lambda: latency("storm", [Range(title, role, (150.0, 150.0, 150.0)) for title, role in TITLES]),
    "close points": lambda: plane("t", "requests, k/s", "CPU, us", [Point(title, role, 50.0, 15.0) for title, role in TITLES]),
    "far points": lambda: plane(
        "t", "requests, k/s", "CPU, us", [Point(title, role, 3.0**number, 2.0**number) for number, (title, role) in enumerate(TITLES)]
    ),
    "points within two decades": lambda: plane(
        "t",
        "requests, k/s",
        "CPU, us",
        [Point(title, role, 900.0 * 1.4**number, 700 * 1.4**number) for number, (title, role) in enumerate(TITLES)],
    ),
    "points within one decade": lambda: plane(
        "t", "requests, k/s", "CPU, us", [Point(title, role, 900.0 + 500 * number, 70.0) for number, (title, role) in enumerate(TITLES)]
    ),
    "lines": lambda: lines("t", "w", "ms", [Line(title, role, [(100, 1.0), (1000, 2.5), (10000, 40.0)]) for title, role in TITLES[:3]]),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_no_word_covers_another_one(figure: str) -> None:
    found = boxes(FIGURES[figure]())
    assert len(found) > 8
    assert [(one, other) for (one, first), (other, second) in combinations(found.items(), 2) if overlap(first, second)] == []


@pytest.mark.parametrize("figure", FIGURES)
def test_no_word_leaves_the_picture(figure: str) -> None:
    drawn = FIGURES[figure]()
    found = boxes(drawn)
    picture = drawn.bbox
    outside = [
        text
        for text, box in found.items()
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > picture.x1 + SLACK or box.y1 > picture.y1 + SLACK
    ]
    assert outside == []
