"""A comparison as a Markdown table: medians with half the spread, and ours in relation to the best peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.subjects import OURS, PEERS, SUBJECTS
from bench.workloads import WORKLOADS, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.results import Results, Value

EMPTY: Final = "-"
CALM: Final = 0.15
"""CPUs that others may use during a measurement before they get in its way."""


def markdown(results: Results, subjects: Sequence[str], workloads: Sequence[str]) -> str:
    """Give the whole report."""
    head = ["", "unit", *(SUBJECTS[subject].title for subject in subjects), "ours : best peer"]
    rows = [head, ["---", "---", *("---:" for _ in head[2:])], *_rows(results, subjects, workloads)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([table, "", *_notes(results, subjects)])


def ratio(results: Results, workload: str, figure: Figure) -> str:
    """Give ours : best peer. A difference within the spreads of both is marked as a tie (=), else + is better, ! worse."""
    ours = results.value(OURS, workload, figure)
    peers = [value for value in (results.value(peer, workload, figure) for peer in PEERS) if value]
    if not ours or not peers:
        return EMPTY
    best = (max if figure.higher_is_better else min)(peers)
    if not best.median:
        return EMPTY
    return f"{ours.median / best.median:.2f} {_mark(ours, best, figure)}"


def _mark(ours: Value, best: Value, figure: Figure) -> str:
    if abs(ours.median - best.median) <= max(ours.half_spread, best.half_spread):
        return "="
    return "+" if (ours.median > best.median) == figure.higher_is_better else "!"


def _rows(results: Results, subjects: Sequence[str], workloads: Sequence[str]) -> Iterator[list[str]]:
    for name in workloads:
        for figure in WORKLOADS[name].figures:
            cells = [_cell(results.value(subject, name, figure)) for subject in subjects]
            yield [figure.title, figure.unit, *cells, ratio(results, name, figure)]


def _cell(value: Value | None) -> str:
    return EMPTY if value is None else f"{_number(value.median)} ±{_number(value.half_spread)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _notes(results: Results, subjects: Sequence[str]) -> Iterator[str]:
    yield f"Medians of {results.rounds} rounds of {results.seconds:g} s, ± half the distance between the least and the greatest."
    yield "CPU is the user and system time of the proxy's processes. + better, ! worse, = within the spread."
    disturbed = sum(record.sample.others > CALM for record in results.records)
    if disturbed:
        yield f"During {disturbed} of {len(results.records)} measurements others used the CPUs too: take no figure from this run."
    for subject in subjects:
        if subject in results.reasons:
            yield f"{SUBJECTS[subject].title}: {results.reasons[subject]}."
        else:
            yield f"{SUBJECTS[subject].title}: {results.versions.get(subject, 'not run')}."
    failed = [record for record in results.records if record.sample.failed]
    for subject, workload, number, sample in failed:
        what = f"{SUBJECTS[subject].title}, {WORKLOADS[workload].title}, round {number + 1}"
        yield f"{what}: {sample.failed} failed beside {sample.units} ({sample.error})."
