"""What is done with one cell on the spot, and what a Document is told of it. Neither starts subjects nor knows their order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bench import system_calls
from bench.document import EmptyCell, Run, SystemCalls
from bench.measurement import Died, Failed
from bench.processes import family
from bench.subjects import SUBJECTS
from bench.visit import TROUBLE, calm
from bench.workloads import WORKLOADS
from bench.workloads.base import CannotCarry, Site, Workload

if TYPE_CHECKING:
    from bench.document import Document
    from bench.figures import Sample
    from bench.matrix import Cell
    from bench.progress import Reporter

TRACED: Final = {"requests": ("request", 1.0), "connections": ("connection", 1.0), "datagrams": ("round trip", 1.0), "up": ("MB", 1e6)}
"""Whose system calls are counted: what they are counted per, and how many of the workload's units that is."""


@dataclass(frozen=True)
class Recorder:
    """Measures cells and notes what came out, or why nothing did."""

    document: Document
    reporter: Reporter

    def measure(self, number: int, cell: Cell, site: Site) -> None:
        """Measure one cell in a round; raises Died after noting it."""
        what = title(cell)
        self.reporter.begin(what)
        try:
            sample, attempts = calm(WORKLOADS[cell.workload], site)
        except (CannotCarry, Failed) as reason:
            self.empty(cell, str(reason))
            self.reporter.done(f"{what}: {reason}")
            if isinstance(reason, Died):
                raise
            return
        workload = WORKLOADS[cell.workload]
        values = {figure.key: value for figure in workload.figures if (value := figure.of(sample)) is not None}
        run = Run(
            *cell,
            round=number,
            values=values,
            units=sample.units,
            seconds=sample.seconds,
            failed=sample.failed,
            error=sample.error,
            others=sample.others,
            attempts=attempts,
        )
        self.document.runs.append(run)
        self.reporter.done(f"{what}: {_told(workload, values, sample)}")

    def trace(self, tool: str, cell: Cell, site: Site) -> None:
        """Count the system calls of one cell; raises Died after noting it."""
        what = f"{title(cell)}, system calls"
        self.reporter.begin(what)
        if site.running.process is None:
            self.reporter.left_out(f"{what}: there is no proxy", 1)
            return
        try:
            with system_calls.attached(tool, family(site.running.process.pid)) as tracer:
                units = WORKLOADS[cell.workload].measure(replace(site, counting=tracer.counting)).units
                counts = tracer.counts()
        except (CannotCarry, Failed, *TROUBLE) as reason:
            self.document.remarks.append(f"{what}: {reason}")
            self.reporter.done(self.document.remarks[-1])
            if isinstance(reason, Died):
                raise
            return
        unit, scale = TRACED[cell.workload]
        per_unit = {name: count * scale / units for name, count in counts.most_common()} if units else {}
        self.document.system_calls.append(SystemCalls(*cell, per_unit, unit, tool))
        self.reporter.done(f"{what}: {sum(per_unit.values()):.2f} per {unit}")

    def empty(self, cell: Cell, reason: str) -> None:
        """Note why a cell has no value, once for all rounds."""
        found = EmptyCell(*cell, reason)
        if found not in self.document.empty:
            self.document.empty.append(found)


def title(cell: Cell) -> str:
    """Name a cell for somebody who watches."""
    family = ", IPv6" if cell.family == 6 else ""
    return f"{SUBJECTS[cell.subject].title}, {WORKLOADS[cell.workload].title}{family}"


def _told(workload: Workload, values: dict[str, float], sample: Sample) -> str:
    """Give the figures that have a unit, and how much of a CPU the proxy used: far from 100 % something else ended first."""
    figures = (f"{_number(values[figure.key])} {figure.unit}" for figure in workload.figures if figure.unit and figure.key in values)
    busy = "" if sample.cpu is None else f" (busy {sample.cpu / sample.seconds:.0%})"
    return ", ".join(figures) + busy


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
