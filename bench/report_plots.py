"""Which plots a run has, taken from its Document: plots.py draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench import plots
from bench.document import OURS
from bench.report_section_lines import series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from bench.document import Document, FigureInfo, WorkloadInfo

LATENCY: Final = ("p50", "p99", "p999")
BESIDE: Final = ("switches", "anonymous", "held", "offered", "changes", "feeding")
"""Told by the table alone: they explain other figures, or say what the load was."""
ORDER: Final = ("ours", "variant", "peer", "kernel")


def of_group(document: Document, group: str, family: int) -> Iterator[Figure]:
    """Give a group's plots: for each of its workloads the bars of each figure, then the latency; at last rate against CPU."""
    workloads = {name: found for name, found in document.workloads.items() if found.group == group}
    for name, workload in workloads.items():
        title = f"{workload.title}, IPv{family}"
        shown = [figure for figure in workload.figures if figure.key not in (*LATENCY, *BESIDE)]
        yield from (drawing for figure in shown if (drawing := _bars(document, (name, family), figure, title)))
        if ranges := list(_ranges(document, name, family)):
            yield plots.latency(title, ranges)
    if drawing := next((found for name, one in workloads.items() if (found := _plane(document, name, one, family))), None):
        yield drawing


def of_section(document: Document, name: str) -> Iterator[Figure]:
    """Give the plots of a section: each of its figures over the number of Services, where there is more than one number."""
    for found in series(document.sections.get(name, {}), name):
        yield plots.lines(found.title, found.what, found.unit, found.lines)


def _bars(document: Document, cell: tuple[str, int], figure: FigureInfo, title: str) -> Figure | None:
    workload, family = cell
    best, found = document.best_peer(workload, figure, family), []
    for name in _subjects(document):
        value = document.value(name, workload, figure.key, family)
        if value is None:
            continue
        against = best if name == OURS else None
        remark = f"{value.median / against[1].median:.2f}x" if against and against[1].median else ""
        about = document.subjects[name]
        found.append(plots.Bar(about.title, about.role, _rounds(document, (name, *cell), figure.key), value.median, remark))
    if not any(max(bar.rounds) for bar in found):
        return None  # nobody lost anything: the table says so
    return plots.bars(title, figure.title, figure.unit, found, higher_is_better=figure.higher_is_better)


def _rounds(document: Document, cell: tuple[str, str, int], figure: str) -> list[float]:
    runs = (run for run in document.runs if (run.subject, run.workload, run.family) == cell)
    return [run.values[figure] for run in runs if figure in run.values]


def _ranges(document: Document, workload: str, family: int) -> Iterator[plots.Range]:
    for name in _subjects(document):
        values = [value.median for key in LATENCY if (value := document.value(name, workload, key, family))]
        if len(values) == len(LATENCY):
            yield plots.Range(document.subjects[name].title, document.subjects[name].role, values)


def _plane(document: Document, name: str, workload: WorkloadInfo, family: int) -> Figure | None:
    figures = {figure.key: figure for figure in workload.figures}
    if not {"rate", "cpu"} <= figures.keys():
        return None
    found = []
    for subject in _subjects(document):
        rate, cpu = (document.value(subject, name, key, family) for key in ("rate", "cpu"))
        if rate and cpu and rate.median > 0 and cpu.median > 0:
            found.append(plots.Point(document.subjects[subject].title, document.subjects[subject].role, rate.median, cpu.median))
    across, up = (f"{figures[key].title}, {figures[key].unit}" for key in ("rate", "cpu"))
    return plots.plane(f"{workload.title}, IPv{family}", across, up, found) if found else None


def _subjects(document: Document) -> list[str]:
    """Give the subjects as plots have them: ours first, then what differs from ours in a setting, then the others."""
    return sorted(document.subjects, key=lambda name: ORDER.index(document.subjects[name].role))
