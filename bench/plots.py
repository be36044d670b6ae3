"""The plots of a run: bars with every round's dot, latency, rate against CPU, and lines over the number of Services.

Each is drawn from plain values and says in its title what is better; plot_style.py knows how it looks. No files, no pages.
"""

from __future__ import annotations

import textwrap
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bench.plot_style import GRID, HATCHES, INK, PAPER, ROLES, SMALL, drawn, place
from bench.report_marks import number, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

ROW: Final = 0.27
"""Inches for each subject."""
LABELS: Final = 1.55
"""Inches for the subjects' names, which are broken where they are longer."""
WRAP: Final = 25
NAME: Final = 0.155
"""Inches for a line of a name beside a plane or lines."""
Steps = tuple[tuple[float, tuple[float, ...]], ...]
"""The ticks of a decade for axes whose ends differ by less than a factor: the fewer, the more decades there are."""
WIDE: Final[Steps] = ((8.0, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)), (30.0, (1.0, 2.0, 5.0)), (inf, (1.0,)))
NARROW: Final[Steps] = ((8.0, (1.0, 2.0, 5.0)), (30.0, (1.0, 3.0)), (inf, (1.0,)))
NUMBERS: Final = 1.2
"""Inches for what is written beside a latency."""
QUANTILES: Final = (("o", 22.0, 0.5), ("D", 16.0, 0.5), ("|", 42.0, 1.6))
"""Marker, its size and the width of its line: p50, p99, p99.9."""


class Bar(NamedTuple):
    """One subject's rounds, and what is written behind the bar."""

    title: str
    role: str
    rounds: Sequence[float]
    median: float
    remark: str = ""


class Range(NamedTuple):
    """One subject's p50, p99 and p99.9, in microseconds."""

    title: str
    role: str
    values: Sequence[float]


class Point(NamedTuple):
    """One subject in the plane."""

    title: str
    role: str
    x: float
    y: float


class Line(NamedTuple):
    """One subject's figure over the number of Services: pairs in ascending order."""

    title: str
    role: str
    points: Sequence[tuple[float, float]]


def bars(title: str, what: str, unit: str, found: Sequence[Bar], *, higher_is_better: bool) -> Figure:
    """Draw a figure of all subjects: the median as a bar, the spread as a line, each round as a dot."""

    def draw(axes: Axes) -> None:
        _rows(axes, [(bar.title, bar.role) for bar in found])
        most = max(value for bar in found for value in (*bar.rounds, bar.median))
        most = most if most > 0 else 1.0
        spots, colours = range(len(found)), [ROLES[bar.role] for bar in found]
        patches = axes.barh(spots, [bar.median for bar in found], 0.62, color=colours, edgecolor=PAPER, linewidth=0)
        for patch, bar in zip(patches, found, strict=True):
            patch.set_hatch(HATCHES.get(bar.role))
        axes.hlines(spots, [min(bar.rounds) for bar in found], [max(bar.rounds) for bar in found], color=INK, linewidth=1.0, zorder=3)
        rounds = [value for bar in found for value in bar.rounds]
        rows = [spot for spot, bar in enumerate(found) for _ in bar.rounds]
        axes.scatter(rounds, rows, s=9, color=INK, edgecolors=PAPER, linewidths=0.5, zorder=4)
        for spot, bar in enumerate(found):
            text = f"{number(bar.median)}{f'  {bar.remark}' * bool(bar.remark)}"
            axes.text(max(bar.rounds) + most * 0.025, spot, text, va="center", fontweight=_weight(bar.role))
        axes.set_xlim(0, most * 1.4)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        axes.grid(visible=True, axis="x")
        axes.set_xlabel(unit or "number")

    return drawn(0.45 + ROW * len(found), title, f"{what}: {_better(higher_is_better=higher_is_better)}", draw)


def latency(title: str, found: Sequence[Range]) -> Figure:
    """Draw how long units took, with every subject: p50, p99 and p99.9 as dots on a logarithmic axis, and as numbers beside it."""

    def draw(axes: Axes) -> None:
        _rows(axes, [(one.title, one.role) for one in found])
        place(axes, left=LABELS, right=NUMBERS)
        spots, colours = range(len(found)), [ROLES[one.role] for one in found]
        ends = [min(one.values) for one in found], [max(one.values) for one in found]
        axes.hlines(spots, *ends, colors=colours, linewidth=2.2, alpha=0.45)
        for quantile, (marker, size, width) in enumerate(QUANTILES):
            values = [one.values[quantile] for one in found]
            axes.scatter(values, spots, s=size, marker=marker, color=colours, linewidths=width, zorder=3)
        for spot, one in enumerate(found):
            text = " / ".join(map(short, one.values))
            axes.annotate(text, (1.04, spot), xycoords=("axes fraction", "data"), va="center", fontweight=_weight(one.role), fontsize=6.8)
        axes.set_xscale("log")
        axes.set_xlim(min(ends[0]) / 1.6, max(ends[1]) * 1.6)
        _logarithmic(axes.xaxis, NARROW, _duration)
        axes.grid(visible=True, axis="x")
        axes.set_xlabel("logarithmic")

    return drawn(0.45 + ROW * len(found), title, "latency in us, p50 (●) / p99 (◆) / p99.9 (|): lower is better", draw)


def plane(title: str, rate: str, cost: str, found: Sequence[Point]) -> Figure:
    """Draw the rate against what a unit costs, both logarithmic; names stand in a column beside it. rate, cost: with their units."""

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for point in found:
            marker, size, order = ("*", 130.0, 4) if point.role == "ours" else ("o", 32.0, 3)
            colour = ROLES[point.role]
            axes.scatter([point.x], [point.y], s=size, marker=marker, color=colour, edgecolors=PAPER, linewidths=0.5, zorder=order)
        _widen(axes, [point.x for point in found], [point.y for point in found])
        _logarithmic(axes.xaxis)
        _logarithmic(axes.yaxis)
        axes.grid(visible=True)
        axes.set_xlabel(f"{rate}, logarithmic")
        axes.set_ylabel(f"{cost}, logarithmic")
        place(axes, left=0.62, right=1.6)
        _names(axes, found, height)

    height = max(2.2, _lines_of_names(found) * NAME)
    return drawn(0.42 + height, title, "rate against CPU: right and down is better", draw)


def lines(title: str, what: str, unit: str, found: Sequence[Line]) -> Figure:
    """Draw a figure over the number of Services, both logarithmic; lower is better."""

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for line in found:
            marker, width = ("o", 2.2) if line.role == "ours" else ("s", 1.4)
            style = "--" if line.role == "kernel" else "-"
            xs, ys = ([pair[axis] for pair in line.points] for axis in (0, 1))
            axes.plot(xs, ys, color=ROLES[line.role], linestyle=style, marker=marker, markersize=4.5, linewidth=width)
        _widen(axes, *([pair[axis] for line in found for pair in line.points] for axis in (0, 1)))
        _logarithmic(axes.xaxis)
        _logarithmic(axes.yaxis)
        axes.grid(visible=True)
        axes.set_xlabel("Services, logarithmic")
        axes.set_ylabel(f"{unit}, logarithmic")
        place(axes, left=0.62, right=1.6)
        _names(axes, ends, height)

    ends = [Point(line.title, line.role, *line.points[-1]) for line in found]
    height = max(1.7, _lines_of_names(ends) * NAME)
    return drawn(0.42 + height, title, f"{what}: lower is better", draw)


def _rows(axes: Axes, rows: Sequence[tuple[str, str]]) -> None:
    """Name the rows, the first one on top; ours in its colour."""
    axes.set_yticks([])
    for spot, (title, role) in enumerate(rows):
        words = textwrap.wrap(title, WRAP)
        colour = ROLES["ours"] if role == "ours" else INK
        for line, text in enumerate(words):
            up = ((len(words) - 1) / 2 - line) * SMALL * 1.05
            # Each line is a text of its own, anchored at its end: a page's font has other widths than the one that is known here.
            axes.annotate(
                text, (0.0, spot), (-6.0, up), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="center",
                color=colour, fontweight=_weight(role), annotation_clip=False,
            )  # fmt: skip
    axes.set_ylim(len(rows) - 0.45, -0.55)
    place(axes, left=LABELS)


def _lines_of_names(found: Sequence[Point]) -> int:
    return sum(len(textwrap.wrap(point.title, WRAP)) for point in found)


def _names(axes: Axes, found: Sequence[Point], height: float) -> None:
    """Write the points' names in a column on the right, in the order of their height, with a thin line to each. height: in inches."""
    names = {id(point): "\n".join(textwrap.wrap(point.title, WRAP)) for point in found}
    heights = {id(point): axes.transAxes.inverted().transform(axes.transData.transform((point.x, point.y)))[1] for point in found}
    ordered = sorted(found, key=lambda point: heights[id(point)])
    spots = _apart([heights[id(point)] for point in ordered], [NAME / height * (1 + names[id(point)].count("\n")) for point in ordered])
    for point, spot in zip(ordered, spots, strict=True):
        colour = ROLES["ours"] if point.role == "ours" else INK
        arrow = {"arrowstyle": "-", "color": GRID, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 3, "relpos": (0.0, 0.5)}
        axes.annotate(
            names[id(point)], (point.x, point.y), (1.06, spot), textcoords="axes fraction", va="center", color=colour, fontsize=SMALL,
            fontweight=_weight(point.role), arrowprops=arrow, linespacing=0.95,
        )  # fmt: skip


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Move places (ascending, from 0 to 1) so far apart that what stands there, half a size to each side, does not overlap."""
    found: list[float] = []
    floor = 0.0
    for spot, size in zip(wanted, sizes, strict=True):
        found.append(max(spot, floor + size / 2))
        floor = found[-1] + size / 2
    ceiling = 1.0
    for index, size in reversed(list(enumerate(sizes))):
        found[index] = min(found[index], ceiling - size / 2)
        ceiling = found[index] - size / 2
    return found


def _widen(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Leave room around the points of logarithmic axes, and never show less than a factor of two."""
    for values, limit in ((xs, axes.set_xlim), (ys, axes.set_ylim)):
        low, high = min(values), max(values)
        factor = max(1.15, (2.0 * low / high) ** 0.5) * (high / low) ** 0.06
        limit(low / factor, high * factor)


def _logarithmic(axis: Axis, steps: Steps = WIDE, tick: Callable[[float, int | None], str] | None = None) -> None:
    least, most = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=next(found for factor, found in steps if most / least < factor)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(tick or _tick))


def _tick(value: float, _place: int | None = None) -> str:
    return f"{value:,.10g}"


def _duration(microseconds: float, _place: int | None = None) -> str:
    size, unit = next(((size, unit) for size, unit in ((1e6, "s"), (1e3, "ms")) if microseconds >= size), (1.0, "us"))
    return f"{microseconds / size:g} {unit}"


def _weight(role: str) -> str:
    return "bold" if role == "ours" else "normal"


def _better(*, higher_is_better: bool) -> str:
    return "higher is better" if higher_is_better else "lower is better"
