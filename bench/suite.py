"""A run as it goes on: rounds, system calls, the other measurements; what comes out goes into a Document, which is kept after each.

Which cells there are is matrix.py's, what is done with one is recorder.py's, how one gets there is visit.py's.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from bench import system_calls
from bench.document import Conditions, Document, EmptyCell, FigureInfo, SubjectInfo, WorkloadInfo
from bench.load.native import implementation
from bench.matrix import left_out
from bench.measurement import others_of, spent
from bench.recorder import TRACED, Recorder
from bench.results import machine
from bench.subjects import SUBJECTS
from bench.subjects.base import CannotRun
from bench.topology import LOAD_CPU, PROXY_CPU
from bench.visit import TROUBLE, visit
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    from bench.matrix import Cell, Matrix
    from bench.progress import Reporter
    from bench.workloads.base import Site, Workload

TRACED_SECONDS: Final = 1.0
OVERHEAD_SECONDS: Final = 1.2
"""What a measurement takes beside its seconds: interpreters that start, the warm-up."""


@dataclass(frozen=True)
class Plan:
    """What to do. seconds: of each measurement; calls: whether system calls are counted; work: a folder for files meanwhile."""

    matrix: Matrix
    rounds: int
    seconds: float
    quick: bool
    calls: bool
    work: Path


class Suite:
    """Does it. keep: called with the Document whenever more is in it."""

    def __init__(self, plan: Plan, keep: Callable[[Document], None]) -> None:
        self._plan = plan
        self._keep = keep
        empty = left_out(plan.matrix, SUBJECTS, WORKLOADS)
        self._matrix = plan.matrix.without(empty)
        self.document = new_document(plan, empty)
        self._traced = self._cells_to_trace() if plan.calls else {}
        self._began = time.monotonic(), spent()

    def steps(self) -> int:
        """Give how many measurements there are, sections included as if they were so many."""
        cells = sum(len(self._matrix.cells(subject)) for subject in self._matrix.subjects)
        return self._plan.rounds * cells + sum(map(len, self._traced.values())) + sum(map(self._section_steps, self._matrix.sections))

    def run(self, reporter: Reporter) -> None:
        """Measure everything; what cannot be measured is noted."""
        recorder = Recorder(self.document, reporter)
        with _pinned(LOAD_CPU):
            for number in range(self._plan.rounds):
                for turn in self._matrix.visits(number):
                    self._through(turn.subject, turn.cells, self._plan.seconds, partial(recorder.measure, number), recorder)
                self.keep()
            self._system_calls(recorder)
        for name in self._matrix.sections:
            self._section(name, reporter)
            self.keep()
        self.document.complete = True
        self.keep()

    def keep(self) -> None:
        """Note what the machine did so far, and have all kept."""
        began, before = self._began
        seconds, now = time.monotonic() - began, spent()
        stolen = (now.machine.stolen - before.machine.stolen) / seconds
        self.document.conditions = Conditions(seconds, others_of(before, now, seconds) - stolen, stolen)
        self._keep(self.document)

    def _through(self, name: str, cells: Sequence[Cell], seconds: float, measure: Callable[[Cell, Site], None], recorder: Recorder) -> None:
        """Measure cells of a subject, which is started anew when it dies; those of one that cannot run stay empty."""
        about = self.document.subjects[name]
        reason = about.reason
        while cells and not reason:
            recorder.reporter.begin(f"{about.title}: starting")
            try:
                about.version = about.version or SUBJECTS[name].version()
                cells = visit(SUBJECTS[name], cells, self._plan.work, seconds, measure)
            except (CannotRun, *TROUBLE) as error:
                reason = str(error)
                self._note(name, cells, reason, recorder)
        if cells:
            recorder.reporter.left_out(f"{about.title}: {reason}", len(cells))

    def _note(self, name: str, cells: Sequence[Cell], reason: str, recorder: Recorder) -> None:
        """Leave a subject out for good; only for this time when it has run before."""
        if any(run.subject == name for run in self.document.runs):
            for cell in cells:
                recorder.empty(cell, reason)
        else:
            self.document.subjects[name].reason = reason

    def _cells_to_trace(self) -> dict[str, list[Cell]]:
        """Give the cells whose system calls are counted, by subject: those of proxies."""
        proxies = [subject for subject in self._matrix.subjects if self.document.subjects[subject].role != "kernel"]
        return {subject: [cell for cell in self._matrix.cells(subject) if cell.workload in TRACED] for subject in proxies}

    def _system_calls(self, recorder: Recorder) -> None:
        steps = sum(map(len, self._traced.values()))
        tools = system_calls.tools() if steps else []
        if steps and not tools:
            self.document.remarks.append("System calls are not counted: neither perf nor strace is installed and allowed here.")
            recorder.reporter.left_out(self.document.remarks[-1], steps)
        for subject, cells in self._traced.items() if tools else ():
            self._through(subject, cells, min(self._plan.seconds, TRACED_SECONDS), partial(recorder.trace, tools[0]), recorder)
        self.keep()

    def _section(self, name: str, reporter: Reporter) -> None:
        """Make one of the other measurements."""
        reporter.begin(name)
        try:
            self.document.sections |= _control().sections([name], self._plan.quick, reporter)
        except TROUBLE as error:
            self.document.remarks.append(f"{name}: {error}")
        reporter.done(f"{name}: {'done' if name in self.document.sections else self.document.remarks[-1]}", self._section_steps(name))

    def _section_steps(self, name: str) -> int:
        """Give how many measurements of the table take as long as a section, so that the time left is about right."""
        seconds: int = _control().estimate(name, quick=self._plan.quick)
        return max(1, round(seconds / (self._plan.seconds + OVERHEAD_SECONDS)))


def _control() -> ModuleType:
    """Import the other measurements when they are wanted: who measures packets only has no need of what they need."""
    from bench import control  # noqa: PLC0415 - as the docstring says

    return control


def new_document(plan: Plan, empty: list[EmptyCell]) -> Document:
    """Give a document with nothing in it but what is to be measured, where, and what is left out."""
    made = datetime.now(tz=UTC).isoformat(timespec="seconds")
    pinned = "one CPU for all" if PROXY_CPU == LOAD_CPU else f"proxy on CPU {PROXY_CPU}, load on CPU {LOAD_CPU}"
    subjects = {name: SubjectInfo(SUBJECTS[name].title, SUBJECTS[name].role) for name in plan.matrix.subjects}
    workloads = {name: _described(WORKLOADS[name]) for name in plan.matrix.workloads}
    facts = {**machine(), "load": implementation(), "pinned": pinned}
    return Document(made, facts, plan.seconds, plan.rounds, list(plan.matrix.families), subjects, workloads, empty=empty, complete=False)


@contextmanager
def _pinned(cpu: int) -> Iterator[None]:
    """Stay on one CPU until left, with all that is started meanwhile and says nothing else."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _described(workload: Workload) -> WorkloadInfo:
    figures = [FigureInfo(figure.key, figure.title, figure.unit, figure.higher_is_better) for figure in workload.figures]
    return WorkloadInfo(workload.title, workload.group, figures)
