"""Runs with an API server as a Markdown table: a column for each size and proxy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from bench.cluster_run import KINDS, MOST_CHANGES
from bench.document import CALM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.cluster_run import Run, Series
    from bench.cluster_subjects import Costs

EMPTY: Final = "-"
LISTS: Final = (("Service", "Services"), ("EndpointSlice", "EndpointSlices"))


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value that this share of all is not above (nearest rank); infinite values are greatest. Of none: not a number."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def served(series: Series) -> list[float]:
    """Give the seconds of each change, infinitely many for one that was never served."""
    return [math.inf if seen.served is None else seen.served for seen in series.seen]


def markdown(runs: Sequence[Run], rates: Sequence[int]) -> str:
    """Give the table."""
    head = ["", *(f"{run.services:,}: {run.title}" for run in runs)]
    columns = [list(_column(run, rates)) for run in runs]
    rows = [head, ["---", *("---:" for _ in runs)]]
    rows += [[label, *(column[place][1] for column in columns)] for place, (label, _) in enumerate(columns[0])]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *_notes(runs)])


def _column(run: Run, rates: Sequence[int]) -> Iterator[tuple[str, str]]:
    yield "start to the first Service answering, s", f"{run.first:.2f}"
    yield "start to the last one answering, s", f"{run.last:.2f}"
    yield "Services that do not answer then", str(run.not_served)
    yield from _phases(run.facts)
    yield "CPU of the start, s", f"{run.started.cpu:.2f}"
    yield "waited for a CPU meanwhile, s", f"{run.started.waited:.2f}"
    yield "longest pause of the loop: start, ms", _pause(run.started)
    yield "longest pause of the loop: idle included, ms", _pause(run.idle)
    yield "longest pause of the loop: changes included, ms", _pause(run.end)
    yield "idle memory: resident, MB", f"{run.idle.memory.resident / 1e6:.1f}"
    yield "idle memory: proportional, MB", f"{run.idle.memory.proportional / 1e6:.1f}"
    yield "idle memory: anonymous, MB", f"{run.idle.memory.anonymous / 1e6:.1f}"
    yield "resident memory after all changes, MB", f"{run.end.memory.resident / 1e6:.1f}" if run.changes else EMPTY
    found = {(series.kind, series.rate): series for series in run.changes}
    for kind in KINDS:
        for rate in rates:
            series = found.get((kind, rate))
            yield f"{kind}, {rate}/s: p50 / p99, ms", _latency(series)
            yield f"{kind}, {rate}/s: of it the API server p50 / p99, ms", _answer(series)
    yield "nft: the table as text, MB", f"{run.nft.bytes / 1e6:.2f}"
    yield "nft: the whole table loaded, ms", f"{run.nft.whole * 1000:.0f}"
    yield "nft: one Service more, ms", f"{run.nft.one * 1000:.1f}"
    yield "CPUs used by others: start", f"{run.others:.1f}"
    yield "CPUs used by others: changes", f"{max((series.others for series in run.changes), default=0.0):.1f}" if run.changes else EMPTY


def _phases(facts: dict[str, float]) -> Iterator[tuple[str, str]]:
    for kind, plural in LISTS:
        yield f"list {plural} (of it decode), ms", _fact(facts, f"{kind} milliseconds", f"{kind} decode_milliseconds")
    for name in ("plan", "listen", "program"):
        yield f"{name}, ms", _fact(facts, name)
    for name in ("plan", "program"):
        yield f"{name}, a round of changes, ms", _fact(facts, f"{name} of a change")


def _fact(facts: dict[str, float], name: str, part: str = "") -> str:
    if name not in facts:
        return EMPTY
    return f"{facts[name]:.0f} ({facts[part]:.0f})" if part else f"{facts[name]:.0f}"


def _pause(costs: Costs) -> str:
    return EMPTY if costs.pause is None else f"{costs.pause * 1000:.1f}"


def _latency(series: Series | None) -> str:
    if series is None:
        return EMPTY
    values = served(series)
    lost = sum(math.isinf(value) for value in values)
    return f"{_both(values)}{f' ({lost} never)' if lost else ''}"


def _answer(series: Series | None) -> str:
    return EMPTY if series is None else _both([seen.answered for seen in series.seen])


def _both(values: Sequence[float]) -> str:
    return " / ".join(f"{1000 * percentile(values, share):.0f}" for share in (0.5, 0.99))


def _notes(runs: Sequence[Run]) -> Iterator[str]:
    yield "One TCP port, one family, 2 endpoints each. A change is one request; its time runs from sending it until a client on the"
    yield "node is first served accordingly, found out by connecting again and again, 2 ms apart or more."
    if any(run.title.startswith("kube-proxy") for run in runs):
        yield "kube-proxy has its own defaults: nftables mode, minSyncPeriod 1 s."
    yield "A start's plan, listen and program are uproxy's first round; kube-proxy's program is the mean of its whole rounds."
    counts = {series.rate: len(series.seen) for run in runs for series in run.changes}
    if counts:
        made = ", ".join(f"{count} at {rate}/s" for rate, count in sorted(counts.items()))
        yield f"Changes: {made} (at most {MOST_CHANGES}); p99 of fewer than 100 is the greatest."
    disturbed = [run for run in runs if max(run.others, *(series.others for series in run.changes), 0.0) > CALM]
    if disturbed:
        yield f"In {len(disturbed)} of {len(runs)} columns others used the CPUs too: take no figure from those."
