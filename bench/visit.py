"""One visit: a subject started once in a network of its own, one measurement after the other, all of it gone at the end.

Knows neither rounds nor reports.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.document import CALM
from bench.measurement import Died, check_alive, load_server
from bench.subjects.base import CannotRun
from bench.topology import Topology
from bench.workloads.base import CannotCarry, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.figures import Sample
    from bench.matrix import Cell
    from bench.subjects.base import Running, Subject
    from bench.workloads.base import Workload

ATTEMPTS: Final = 4
"""How often a measurement is made in all when others use the CPUs meanwhile."""
TROUBLE: Final = (OSError, RuntimeError, subprocess.SubprocessError)
"""What a machine raises that lacks something: a cell or a subject is left out then, not the rest of the run."""
WARM_UP_SECONDS: Final = 0.5


@contextmanager
def started(subject: Subject, work: Path) -> Iterator[tuple[Topology, Running]]:
    """Start a subject until left. work: a folder for its files. Raises CannotRun."""
    with tempfile.TemporaryDirectory(dir=work) as folder, Topology() as topology, load_server(topology):
        try:
            running = subject.start(topology, Path(folder))
        except TROUBLE as error:
            raise CannotRun(_first_line(error)) from error
        try:
            yield topology, running
        finally:
            running.stop()


def visit(subject: Subject, cells: Sequence[Cell], work: Path, seconds: float, measure: Callable[[Cell, Site], None]) -> Sequence[Cell]:
    """Measure cells, and give those that are left when the subject died in one: measure has noted that one. Raises CannotRun."""
    with started(subject, work) as (topology, running):
        for place, cell in enumerate(cells):
            try:
                measure(cell, Site(topology, running, cell.family, seconds, min(WARM_UP_SECONDS, seconds / 2)))
            except Died:
                return cells[place + 1 :]
    return ()


def calm(workload: Workload, site: Site) -> tuple[Sample, int]:
    """Measure, and again while somebody else uses the CPUs; give the calmest sample and how many there were.

    Raises CannotCarry, Failed, Died.
    """
    samples: list[Sample] = []
    while len(samples) < ATTEMPTS and (not samples or samples[-1].others > CALM):
        try:
            samples.append(workload.measure(site))
        except TROUBLE as error:
            check_alive(site.running)
            raise CannotCarry(_first_line(error)) from error
        check_alive(site.running)
    return min(samples, key=lambda sample: sample.others), len(samples)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
