"""Which cells are measured, in which order, and which are left out from the start: pure decisions about names.

A cell is a subject, a workload and a family. Rounds are interleaved and their order is rotated: each visits every subject
once, another one first each time, so that what else the machine does meets all of them. Knows nothing of how one measures.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.document import EmptyCell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bench.subjects.base import Subject
    from bench.workloads.base import Workload

FIRST: Final = "idle"
SECTIONS: Final = ("scale", "cluster", "cni")
"""The other measurements that a run includes, in its order."""


class Cell(NamedTuple):
    """One place of the table."""

    subject: str
    workload: str
    family: int


class Visit(NamedTuple):
    """What a subject does in a round, started once, in a network of its own."""

    round: int
    subject: str
    cells: tuple[Cell, ...]


class Matrix(NamedTuple):
    """What is to be measured, in the report's order. pairs: subjects and workloads that meet."""

    subjects: tuple[str, ...]
    workloads: tuple[str, ...]
    families: tuple[int, ...]
    pairs: frozenset[tuple[str, str]]
    sections: tuple[str, ...] = ()

    def cells(self, subject: str) -> tuple[Cell, ...]:
        """Give the cells of a subject, in the order in which they are measured.

        FIRST comes first: memory that an earlier load has left behind would be used again, and seem to cost nothing.
        """
        met = [workload for workload in self.workloads if (subject, workload) in self.pairs]
        met.sort(key=lambda workload: workload != FIRST)
        return tuple(Cell(subject, workload, family) for family in self.families for workload in met)

    def without(self, left_out: Iterable[EmptyCell]) -> Matrix:
        """Take cells out; subjects and workloads stay, as empty cells of the report."""
        return self._replace(pairs=self.pairs - {(cell.subject, cell.workload) for cell in left_out})

    def visits(self, number: int) -> Iterator[Visit]:
        """Give the visits of a round, which counts from 0."""
        shift = number % len(self.subjects) if self.subjects else 0
        for subject in self.subjects[shift:] + self.subjects[:shift]:
            if cells := self.cells(subject):
                yield Visit(number, subject, cells)


def everything(subjects: Sequence[str], workloads: Sequence[str], families: Sequence[int], sections: Sequence[str]) -> Matrix:
    """Let every subject meet every workload."""
    pairs = frozenset((subject, workload) for subject in subjects for workload in workloads)
    return Matrix(tuple(subjects), tuple(workloads), tuple(families), pairs, tuple(sections))


def only(whole: Matrix, patterns: Iterable[str]) -> Matrix:
    """Keep what any of some globs names: "subject/workload", or a subject, a workload or a section alone.

    Raises ValueError, one line with the known names, when one of them names nothing.
    """
    pairs: set[tuple[str, str]] = set()
    sections: set[str] = set()
    for pattern in patterns:
        met = {pair for pair in whole.pairs if _names(pattern, *pair)}
        named = {section for section in whole.sections if fnmatchcase(section, pattern)}
        if not met and not named:
            raise ValueError(f"{pattern} is none of {_known(whole)}")
        pairs |= met
        sections |= named
    return whole._replace(
        subjects=tuple(subject for subject in whole.subjects if any(subject == one for one, _ in pairs)),
        workloads=tuple(workload for workload in whole.workloads if any(workload == one for _, one in pairs)),
        pairs=frozenset(pairs),
        sections=tuple(section for section in whole.sections if section in sections),
    )


def left_out(matrix: Matrix, subjects: Mapping[str, Subject], workloads: Mapping[str, Workload]) -> list[EmptyCell]:
    """Give the cells that nobody needs to try: UDP through what carries none."""
    cells = (cell for subject in matrix.subjects for cell in matrix.cells(subject))
    return [EmptyCell(*cell, "carries no UDP") for cell in cells if workloads[cell.workload].udp and not subjects[cell.subject].udp]


def _names(pattern: str, subject: str, workload: str) -> bool:
    if "/" in pattern:
        return fnmatchcase(f"{subject}/{workload}", pattern)
    return fnmatchcase(subject, pattern) or fnmatchcase(workload, pattern)


def _known(whole: Matrix) -> str:
    parts = {"subjects": whole.subjects, "workloads": whole.workloads, "sections": whole.sections}
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in parts.items() if names)
