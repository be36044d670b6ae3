"""What the control plane's measurements have over the number of Services, as lines to be drawn. From what a run kept alone."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.plots import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Kept = dict[str, Any]
"""One measured size, as the sections scale and cluster keep it: seconds and bytes."""


class Series(NamedTuple):
    """One figure over the number of Services."""

    title: str
    what: str
    unit: str
    lines: Sequence[Line]


class Figure(NamedTuple):
    """What is drawn of a section. of: the figure of one size; None where it was not measured."""

    title: str
    what: str
    unit: str
    of: Callable[[Kept], float | None]


def _pause(run: Kept) -> float | None:
    pause = run["started"]["pause"]
    return None if pause is None else 1000 * pause


def _change(run: Kept) -> float | None:
    """Give the median of the first kind of change at the lowest rate, in milliseconds."""
    if not run["changes"]:
        return None
    kind = run["changes"][0]["kind"]
    first = min((series for series in run["changes"] if series["kind"] == kind), key=lambda series: series["rate"])
    served = [seen[-1] for seen in first["seen"] if seen[-1] is not None]
    return 1000 * median(served) if served else None


FIGURES: Final[dict[str, tuple[Figure, ...]]] = {
    "scale": (
        Figure("Cold start from manifests", "start to all served", "s", lambda run: run["served"]),
        Figure("One endpoint added, manifests", "written to first answer", "ms", lambda run: 1000 * median(run["endpoint_added"])),
        Figure("Memory, manifests", "resident after the start", "MB", lambda run: run["started"]["memory"]["resident"] / 1e6),
        Figure("Longest pause of the loop, manifests", "while starting", "ms", _pause),
        Figure("nft alone, manifests", "the whole table", "ms", lambda run: 1000 * run["nft"]["whole"]),
    ),
    "cluster": (
        Figure("Cold start from an API server", "start to the last Service answering", "s", lambda run: run["last"]),
        Figure("CPU of the start, API server", "until all answer", "s", lambda run: run["started"]["cpu"]),
        Figure("Endpoints replaced, API server", "request to first connection served, median", "ms", _change),
        Figure("Idle memory, API server", "resident", "MB", lambda run: run["idle"]["memory"]["resident"] / 1e6),
        Figure("Longest pause of the loop, API server", "while starting", "ms", _pause),
    ),
}


def series(kept: Mapping[str, Any], name: str) -> Iterator[Series]:
    """Give the figures of a section that were measured with more than one number of Services."""
    for figure in FIGURES.get(name, ()):
        points: dict[str, list[tuple[float, float]]] = {}
        for run in kept.get("runs", ()):
            value = figure.of(run)
            if value is not None and value > 0:
                points.setdefault(_who(run), []).append((run["services"], value))
        lines = [Line(who, _role(who, place), sorted(found)) for place, (who, found) in enumerate(points.items()) if len(found) > 1]
        if lines:
            yield Series(figure.title, figure.what, figure.unit, lines)


def _who(run: Kept) -> str:
    return str(run["title"]) if "title" in run else f"uproxy, {run['form']}"


def _role(who: str, place: int) -> str:
    """Give the colour's role: ours once, then what differs from it; all others are the kernel's."""
    if not who.startswith("uproxy"):
        return "kernel"
    return "ours" if place == 0 else "variant"
