"""What uproxy is to reach in one run, as data, and whether a run reaches it. Pure.

A goal is a bound on a figure: on ours : best peer (proxies in user space; kernel modes aside), or on the figure itself.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.document import OURS, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.document import Document, FigureInfo

BEST_PEER: Final = "best peer"


class Relation(Enum):
    """On which side of the bound the figure is to be."""

    AT_LEAST = ">="
    AT_MOST = "<="


class Goal(NamedTuple):
    """One bound. against: the best peer, a subject by name, or empty for a bound on the figure itself."""

    workload: str
    figure: str
    relation: Relation
    bound: float
    against: str = BEST_PEER


class Verdict(Enum):
    """What became of a goal. TIE: the bound lies within the spread. UNKNOWN: one side was not measured."""

    REACHED = "reached"
    MISSED = "missed"
    TIE = "tie"
    UNKNOWN = "not measured"


class Outcome(NamedTuple):
    """A goal in one family. against: whom ours was compared with, by name; ratio: ours : theirs, or the figure itself."""

    verdict: Verdict
    against: str = ""
    ratio: float | None = None


def _goals() -> Iterator[Goal]:
    least, most = Relation.AT_LEAST, Relation.AT_MOST
    for workload in ("up", "down", "both", "up-64", "down-64", "both-64"):
        yield Goal(workload, "rate", least, 1.3)
        yield Goal(workload, "cpu", most, 0.7)
    yield Goal("requests", "rate", least, 1.0)
    yield Goal("requests", "cpu", most, 1.0)
    yield Goal("connections", "rate", least, 1.1)
    yield Goal("connections", "cpu", most, 0.95)
    yield Goal("request", "p50", most, 1.0)
    yield Goal("requests-512", "p99", most, 1.0)
    yield Goal("datagrams", "rate", least, 1.1)
    yield Goal("datagrams", "cpu", most, 0.9)
    yield Goal("idle", "bytes", most, 2000, against="")
    yield Goal("idle", "descriptors", most, 2, against="")
    yield Goal("idle", "resident", most, 1.0, against="nginx")


GOALS: Final = tuple(_goals())


def figure_of(goal: Goal, document: Document) -> FigureInfo | None:
    """Give the figure that a goal is about; None if the run has no such workload or figure."""
    workload = document.workloads.get(goal.workload)
    return next((figure for figure in workload.figures if figure.key == goal.figure), None) if workload else None


def judge(goal: Goal, document: Document, family: int) -> Outcome:
    """Say what became of a goal in one family of a run."""
    figure = figure_of(goal, document)
    ours = document.value(OURS, goal.workload, goal.figure, family)
    if figure is None or ours is None:
        return Outcome(Verdict.UNKNOWN)
    if not goal.against:
        return Outcome(_verdict(goal, ours, Value(goal.bound, 0.0)), ratio=ours.median)
    found = _other(goal, document, figure, family)
    if found is None or not found[1].median:
        return Outcome(Verdict.UNKNOWN)
    against, theirs = found
    wanted = Value(theirs.median * goal.bound, theirs.half_spread * goal.bound)
    return Outcome(_verdict(goal, ours, wanted), against, ours.median / theirs.median)


def _other(goal: Goal, document: Document, figure: FigureInfo, family: int) -> tuple[str, Value] | None:
    if goal.against == BEST_PEER:
        return document.best_peer(goal.workload, figure, family)
    value = document.value(goal.against, goal.workload, goal.figure, family)
    return (goal.against, value) if value else None


def _verdict(goal: Goal, ours: Value, wanted: Value) -> Verdict:
    above = ours.median - wanted.median
    if not above and not wanted.half_spread:
        return Verdict.REACHED  # exactly what was asked for, and nothing that the runs differ by
    if abs(above) <= max(ours.half_spread, wanted.half_spread):
        return Verdict.TIE
    return Verdict.REACHED if (above > 0) == (goal.relation is Relation.AT_LEAST) else Verdict.MISSED
