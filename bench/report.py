"""A run as Markdown: a table of medians per group of workloads, and ours in relation to the best peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.document import CALM, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.document import Document, FigureInfo, Value

EMPTY: Final = "-"


def markdown(document: Document) -> str:
    """Give the whole report."""
    subjects = document.subjects
    head = ["", "unit", *(subject.title for subject in subjects.values()), "ours : best peer"]
    parts = []
    for family in document.families:
        rows = [head, ["---", "---", *("---:" for _ in head[2:])], *_rows(document, family)]
        parts.append(f"IPv{family}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n")
    return "\n".join([*parts, *_notes(document)])


def ratio(document: Document, workload: str, figure: FigureInfo, family: int = 4) -> str:
    """Give ours : best peer. A difference within the spreads of both is marked as a tie (=), else + is better, ! worse."""
    ours, best = document.value(OURS, workload, figure.key, family), document.best_peer(workload, figure, family)
    if not ours or not best or not best[1].median:
        return EMPTY
    return f"{ours.median / best[1].median:.2f} {_mark(ours, best[1], figure)}"


def _mark(ours: Value, best: Value, figure: FigureInfo) -> str:
    if abs(ours.median - best.median) <= max(ours.half_spread, best.half_spread):
        return "="
    return "+" if (ours.median > best.median) == figure.higher_is_better else "!"


def _rows(document: Document, family: int) -> Iterator[list[str]]:
    for name, workload in document.workloads.items():
        for figure in workload.figures:
            cells = [_cell(document.value(subject, name, figure.key, family)) for subject in document.subjects]
            yield [f"{workload.title}: {figure.title}", figure.unit, *cells, ratio(document, name, figure, family)]


def _cell(value: Value | None) -> str:
    return EMPTY if value is None else f"{_number(value.median)} ±{_number(value.half_spread)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _notes(document: Document) -> Iterator[str]:
    yield f"Medians of {document.rounds} rounds of {document.seconds:g} s, ± half the distance between the least and the greatest."
    yield "CPU is the user and system time of the proxy's processes. + better, ! worse, = within the spread."
    disturbed = sum(run.others > CALM for run in document.runs)
    if disturbed:
        yield f"During {disturbed} of {len(document.runs)} measurements others used the CPUs too: take no figure from this run."
    for subject in document.subjects.values():
        yield f"{subject.title}: {subject.reason or subject.version or 'not run'}."
    for run in document.runs:
        if run.failed:
            what = f"{document.subjects[run.subject].title}, {document.workloads[run.workload].title}, round {run.round + 1}"
            yield f"{what}: {run.failed} failed beside {run.units} ({run.error})."
