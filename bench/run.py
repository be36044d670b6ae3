"""uproxy next to HAProxy, nginx and no proxy at all, over network namespaces: `python -m bench run`.

Rounds are interleaved: each runs every subject, in a network of its own that is fresh, so that nobody pays
for another one's rules or connections. Needs root.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.document import CALM, Document, EmptyCell, FigureInfo, Run, SubjectInfo, WorkloadInfo, write
from bench.entry import guarded
from bench.measurement import Failed, load_server
from bench.progress import Reporter
from bench.report import markdown
from bench.results import machine, new_path
from bench.subjects import DEFAULT, SUBJECTS
from bench.subjects.base import CannotRun
from bench.topology import LOAD_CPU, PROXY_CPU, Topology
from bench.workloads import WORKLOADS
from bench.workloads.base import CannotCarry, Site, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.figures import Sample

ATTEMPTS: Final = 4
"""How often a measurement is made in all when others use the CPUs meanwhile."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 second each instead of 3: enough to see whether everything runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--families", default="4", help="4, 6 or 4,6")
    parser.add_argument("--subjects", default=",".join(DEFAULT), help=f"some of {','.join(SUBJECTS)}")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help=f"some of {','.join(WORKLOADS)}")
    options = parser.parse_args(argv)
    options.subjects = _chosen(parser, "--subjects", options.subjects, list(SUBJECTS))
    options.workloads = _chosen(parser, "--workloads", options.workloads, list(WORKLOADS))
    options.families = [int(family) for family in _chosen(parser, "--families", options.families, ["4", "6"])]
    options.seconds = options.seconds or (1.0 if options.quick else 3.0)
    return options


def _chosen(parser: argparse.ArgumentParser, flag: str, text: str, known: list[str]) -> list[str]:
    chosen = [name.strip() for name in text.split(",")]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"{flag}: {', '.join(unknown)} is none of {', '.join(known)}")
    return chosen


class Suite:
    """Runs the rounds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._names: list[str] = options.subjects
        self._workloads = {name: WORKLOADS[name] for name in options.workloads}
        subjects = {name: SubjectInfo(SUBJECTS[name].title, SUBJECTS[name].role) for name in self._names}
        workloads = {name: _described(workload) for name, workload in self._workloads.items()}
        made = datetime.now(tz=UTC).isoformat(timespec="seconds")
        self.document = Document(made, machine(), options.seconds, options.rounds, options.families, subjects, workloads)

    def run(self) -> Document:
        """Measure everything; what cannot be measured is noted."""
        with Reporter(self._options.rounds * len(self._names) * self._cells()) as reporter:
            for number in range(self._options.rounds):
                shift = number % len(self._names)
                for name in self._names[shift:] + self._names[:shift]:
                    self._visit(name, number, reporter)
        return self.document

    def _cells(self) -> int:
        return len(self._workloads) * len(self._options.families)

    def _visit(self, name: str, number: int, reporter: Reporter) -> None:
        about = self.document.subjects[name]
        if about.reason:
            reporter.done(f"{name}: left out", self._cells())
            return
        reporter.begin(f"{name}: starting")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, Topology() as topology, load_server(topology):
            try:
                about.version = SUBJECTS[name].version()
                running = SUBJECTS[name].start(topology, Path(folder))
            except CannotRun as reason:
                about.reason = str(reason)
                reporter.done(f"{name}: {reason}", self._cells())
                return
            try:
                for family, workload in product(self._options.families, self._workloads):
                    site = Site(topology, running, family, self._options.seconds, warm_up=min(0.5, self._options.seconds / 2))
                    self._measure(site, (name, workload, number), reporter)
            finally:
                running.stop()

    def _measure(self, site: Site, whose: tuple[str, str, int], reporter: Reporter) -> None:
        name, workload_name, number = whose
        workload = WORKLOADS[workload_name]
        reporter.begin(f"{name}: {workload.title}")
        try:
            sample = self._calm(name, site, workload)
        except (CannotCarry, Failed) as reason:
            self._empty(EmptyCell(name, workload_name, site.family, str(reason)))
            reporter.done(f"{name}, {workload.title}: {reason}")
            return
        values = {figure.key: value for figure in workload.figures if (value := figure.of(sample)) is not None}
        counted = (sample.units, sample.seconds, sample.failed, sample.error, sample.others)
        self.document.runs.append(Run(name, workload_name, site.family, number, values, *counted))
        texts = (f"{values[figure.key]:.1f} {figure.unit}" for figure in workload.figures if figure.key in values)
        reporter.done(f"{name}, {workload.title}: {', '.join(texts)}{_busy(sample.cpu, sample.seconds)}")

    def _empty(self, cell: EmptyCell) -> None:
        if cell not in self.document.empty:
            self.document.empty.append(cell)

    @staticmethod
    def _calm(name: str, site: Site, workload: Workload) -> Sample:
        """Measure, and again while somebody else uses the CPUs; the calmest sample counts."""
        if workload.udp and not SUBJECTS[name].udp:
            raise CannotCarry(f"{SUBJECTS[name].title} carries no UDP")
        samples: list[Sample] = []
        for _ in range(ATTEMPTS):
            samples.append(workload.measure(site))
            if samples[-1].others <= CALM:
                break
        return min(samples, key=lambda sample: sample.others)


def _described(workload: Workload) -> WorkloadInfo:
    figures = [FigureInfo(figure.key, figure.title, figure.unit, figure.higher_is_better) for figure in workload.figures]
    return WorkloadInfo(workload.title, workload.group, figures)


def _busy(cpu: float | None, seconds: float) -> str:
    return "" if cpu is None else f" (busy {cpu / seconds:.0%})"


def run(options: argparse.Namespace) -> int:
    """Run the suite, print the report and keep the raw runs."""
    os.sched_setaffinity(0, {LOAD_CPU})
    document = Suite(options).run()
    path = new_path("run", datetime.now(tz=UTC))
    write(document, path)
    print(markdown(document))
    cpus = "one CPU for all" if PROXY_CPU == LOAD_CPU else f"proxy on CPU {PROXY_CPU}, load on CPU {LOAD_CPU}"
    print(f"{cpus[0].upper()}{cpus[1:]}. Raw runs: {path}")
    return 0
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = parse(argv)
    return guarded("bench run", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
