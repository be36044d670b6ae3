"""uproxy next to HAProxy, nginx and no proxy at all, over network namespaces: `python -m bench.compare`.

Rounds are interleaved: each runs every subject, in a network of its own that is fresh, so that nobody pays
for another one's rules or connections. Needs root.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.entry import guarded
from bench.measurement import Failed, load_server, measure
from bench.progress import Reporter
from bench.report import CALM, markdown
from bench.results import Record, Results
from bench.subjects import DEFAULT, SUBJECTS
from bench.subjects.base import CannotRun, Running
from bench.topology import LOAD_CPU, PROXY_CPU, Topology
from bench.workloads import WORKLOADS, Sample, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence


ATTEMPTS: Final = 4
"""How often a measurement is made in all when others use the CPUs meanwhile."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 second each instead of 3: enough to see whether everything runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--subjects", default=",".join(DEFAULT), help=f"some of {','.join(SUBJECTS)}")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help=f"some of {','.join(WORKLOADS)}")
    options = parser.parse_args(argv)
    options.subjects = _chosen(parser, "--subjects", options.subjects, list(SUBJECTS))
    options.workloads = _chosen(parser, "--workloads", options.workloads, list(WORKLOADS))
    options.seconds = options.seconds or (1.0 if options.quick else 3.0)
    return options


def _chosen(parser: argparse.ArgumentParser, flag: str, text: str, known: list[str]) -> list[str]:
    chosen = [name.strip() for name in text.split(",")]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"{flag}: {', '.join(unknown)} is none of {', '.join(known)}")
    return chosen


class Comparison:
    """Runs the rounds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._subjects: list[str] = options.subjects
        self._workloads: list[str] = options.workloads
        self.results = Results(options.seconds, options.rounds)

    def run(self) -> Results:
        """Measure everything; what cannot be measured is noted."""
        per_subject = len(self._workloads)
        with Reporter(self.results.rounds * len(self._subjects) * per_subject) as reporter:
            for number in range(self.results.rounds):
                shift = number % len(self._subjects)
                for name in self._subjects[shift:] + self._subjects[:shift]:
                    self._visit(name, number, reporter)
        return self.results

    def _visit(self, name: str, number: int, reporter: Reporter) -> None:
        if name in self.results.reasons:
            reporter.done(f"{name}: left out", len(self._workloads))
            return
        reporter.begin(f"{name}: starting")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, Topology() as topology, load_server(topology):
            try:
                self.results.versions[name] = SUBJECTS[name].version()
                running = SUBJECTS[name].start(topology, Path(folder))
            except CannotRun as reason:
                self.results.reasons[name] = str(reason)
                reporter.done(f"{name}: {reason}", len(self._workloads))
                return
            try:
                for workload in self._workloads:
                    self._measure(topology, running, (name, workload, number), reporter)
            finally:
                running.stop()

    def _measure(self, topology: Topology, running: Running, whose: tuple[str, str, int], reporter: Reporter) -> None:
        name, workload_name, number = whose
        workload = WORKLOADS[workload_name]
        if workload.udp and not SUBJECTS[name].udp:
            reporter.done(f"{name}: carries no UDP")
            return
        reporter.begin(f"{name}: {workload.title}")
        try:
            sample = self._calm(topology, running, workload)
        except Failed as reason:
            reporter.done(f"{name}, {workload.title}: {reason}")
            return
        self.results.records.append(Record(name, workload_name, number, sample))
        values = ((figure, figure.of(sample)) for figure in workload.figures)
        texts = (f"{value:.1f} {figure.unit}" for figure, value in values if value is not None)
        reporter.done(f"{name}, {workload.title}: {', '.join(texts)}{_busy(sample.cpu, sample.seconds)}")

    def _calm(self, topology: Topology, running: Running, workload: Workload) -> Sample:
        """Measure, and again while somebody else uses the CPUs; the calmest sample counts."""
        seconds, samples = self.results.seconds, []
        for _ in range(ATTEMPTS):
            samples.append(measure(topology, running, workload, seconds, warm_up=min(0.5, seconds / 2)))
            if samples[-1].others <= CALM:
                break
        return min(samples, key=lambda sample: sample.others)


def _busy(cpu: float | None, seconds: float) -> str:
    return "" if cpu is None else f" (busy {cpu / seconds:.0%})"


def run(options: argparse.Namespace) -> int:
    """Compare, print the report and keep the raw runs."""
    os.sched_setaffinity(0, {LOAD_CPU})
    results = Comparison(options).run()
    print(markdown(results, options.subjects, options.workloads))
    cpus = "one CPU for all" if PROXY_CPU == LOAD_CPU else f"proxy on CPU {PROXY_CPU}, load on CPU {LOAD_CPU}"
    print(f"{cpus[0].upper()}{cpus[1:]}. Raw runs: {results.save()}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = parse(argv)
    return guarded("bench compare", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
