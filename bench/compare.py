"""Two runs next to each other: `python -m bench compare A.json B.json`. What changed from A to B, cell by cell.

A change within the spread of both runs is a tie (=), else + is better, ! worse. Needs no root.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.document import Document, FigureInfo, Value, read
from bench.entry import unusable
from bench.report import markdown_of
from bench.report_marks import EMPTY, Mark, mark, number
from bench.report_page import chapter_html, whole
from bench.report_parts import Cell, Chapter, Table
from bench.report_tables import KINDS, groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TITLE: Final = "uproxy: two runs"
OURS: Final = ("ours", "variant")
ABOUT_MACHINE: Final = ("processor", "cpus", "memory", "kernel", "architecture", "python", "python_build")


class Change(NamedTuple):
    """One cell that both runs have. share: how much worse it became, of what it was: 0.1 is ten per cent; negative is better."""

    subject: str
    workload: str
    family: int
    figure: FigureInfo
    before: Value
    after: Value

    @property
    def mark(self) -> Mark:
        """Say what the change is worth."""
        return mark(self.after, self.before, higher_is_better=self.figure.higher_is_better)

    @property
    def growth(self) -> float | None:
        """Give the change as a share of what was; None if that was nothing."""
        return self.after.median / self.before.median - 1 if self.before.median else None

    def is_worse_by(self, percent: float) -> bool:
        """Tell whether it is worse, beyond the spread, by more than that."""
        return self.mark is Mark.WORSE and (self.growth is None or abs(self.growth) * 100 > percent)


def changes(before: Document, after: Document) -> list[Change]:
    """Give every cell that both runs have a value of, in the order of the later one."""
    return [
        Change(subject, name, family, figure, was, now)
        for family in after.families
        for name, workload in after.workloads.items()
        for figure in workload.figures
        for subject in after.subjects
        if (was := before.value(subject, name, figure.key, family)) and (now := after.value(subject, name, figure.key, family))
    ]


def differences(before: Document, after: Document) -> Iterator[str]:
    """Say what is not the same in both runs although their figures depend on it."""
    for key in ABOUT_MACHINE:
        yield from _unlike(key.replace("_", " "), before.machine.get(key, EMPTY), after.machine.get(key, EMPTY))
    yield from _unlike("seconds of a measurement", before.seconds, after.seconds)
    yield from _unlike("rounds", before.rounds, after.rounds)
    yield from _unlike("families", before.families, after.families)
    for name in before.subjects.keys() & after.subjects.keys():
        versions = (run.subjects[name].version or EMPTY for run in (before, after))
        yield from _unlike(f"version of {after.subjects[name].title}", *versions)
    for kind, was, now in (("subjects", before.subjects, after.subjects), ("workloads", before.workloads, after.workloads)):
        yield from _unlike(f"{kind} that only one of them has", *(", ".join(sorted(one)) for one in (was.keys() - now, now.keys() - was)))


def _unlike(what: str, was: object, now: object) -> Iterator[str]:
    if was != now:
        yield f"{what}: {_plain(was)} in the first, {_plain(now)} in the second"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value}" or "nothing"


def summary(document: Document, found: Sequence[Change]) -> str:
    """Count: ours first, as it is what one works at."""
    ours = [change for change in found if document.subjects[change.subject].role in OURS]
    others = [change for change in found if document.subjects[change.subject].role not in OURS]
    return f"uproxy: {_counts(ours)}. Others: {_counts(others)}."


def _counts(found: Sequence[Change]) -> str:
    marks = [change.mark for change in found]
    return f"{marks.count(Mark.BETTER)} better, {marks.count(Mark.WORSE)} worse, {marks.count(Mark.TIE)} ties"


def chapters(before: Document, after: Document) -> Iterator[Chapter]:
    """Give the whole comparison."""
    found = changes(before, after)
    about = f"From {before.made} to {after.made}: medians, and the change in per cent. + better, ! worse, = within the spread."
    warnings = [f"Not the same: {difference}." for difference in differences(before, after)]
    disturbed = [sum(run.disturbed for run in document.runs) for document in (before, after)]
    if any(disturbed):
        warnings.append(f"Others used the CPUs during {disturbed[0]} measurements of the first run and {disturbed[1]} of the second.")
    yield Chapter("Summary", [about, summary(after, found)], notes=warnings)
    for family in after.families:
        for group in groups(after):
            within = [change for change in found if change.family == family and after.workloads[change.workload].group == group]
            if within:
                yield Chapter(f"{group[0].upper()}{group[1:]}, IPv{family}", tables=[_table(after, within)])


def _table(document: Document, found: Sequence[Change]) -> Table:
    subjects = [name for name in document.subjects if any(change.subject == name for change in found)]
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    units: dict[tuple[str, str], str] = {}
    for change in found:
        row = change.workload, change.figure.key
        units[row] = change.figure.unit
        title = f"{document.workloads[change.workload].title}: {change.figure.title}"
        rows.setdefault(row, {"": Cell(title)})[change.subject] = _cell(change)
    head = ["", "unit", *(document.subjects[name].title for name in subjects)]
    body = [[cells[""], Cell(units[row]), *(cells.get(name, Cell(EMPTY)) for name in subjects)] for row, cells in rows.items()]
    return Table(head, body)


def _cell(change: Change) -> Cell:
    percent = "" if change.growth is None else f" {change.growth * 100:+.1f} %"
    text = f"{number(change.before.median)} -> {number(change.after.median)}{percent} {change.mark.value}"
    return Cell(text, KINDS[change.mark])


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("before", type=Path, metavar="A.json", help="a run, as `python -m bench run` keeps it")
    parser.add_argument("after", type=Path, metavar="B.json")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the comparison as a page, too")
    worse = "exit code 1 if a figure of uproxy is worse, beyond the spread, by more than this"
    parser.add_argument("--fail-if-worse", type=float, metavar="PERCENT", help=worse)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, 1 if it is worse than --fail-if-worse allows, 2 if a file cannot be read or written."""
    options = parse(argv)
    try:
        before, after = read(options.before), read(options.after)
        found = list(chapters(before, after))
        print(markdown_of(found), end="")
        if options.html:
            page = whole(TITLE, [chapter_html(chapter, number) for number, chapter in enumerate(found)])
            options.html.write_text(page, encoding="utf-8")
    except (OSError, ValueError) as error:
        return unusable("bench compare", error)
    return _verdict(after, changes(before, after), options.fail_if_worse)


def _verdict(document: Document, found: Sequence[Change], percent: float | None) -> int:
    """Give the exit code, and say what is responsible for it."""
    if percent is None:
        return 0
    worse = [change for change in found if document.subjects[change.subject].role in OURS and change.is_worse_by(percent)]
    for change in worse:
        where = f"{document.subjects[change.subject].title}, {document.workloads[change.workload].title}, IPv{change.family}"
        print(f"bench compare: worse by more than {percent:g} %: {where}: {change.figure.title}: {_cell(change).text}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
