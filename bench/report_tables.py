"""The tables of a run: goals, figures, system calls, versions. From a Document alone; how they are written is others' business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.document import OURS
from bench.goals import GOALS, Relation, Verdict, figure_of, judge
from bench.report_marks import EMPTY, Mark, mark, number, spread
from bench.report_parts import Cell, Table, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.document import Document, FigureInfo, SystemCalls
    from bench.goals import Goal

KINDS: Final = {Mark.BETTER: "better", Mark.WORSE: "worse", Mark.TIE: "tie"}
VERDICTS: Final = {Verdict.REACHED: "better", Verdict.MISSED: "worse", Verdict.TIE: "tie", Verdict.UNKNOWN: "reason"}
ROLES: Final = {"ours": "ours", "variant": "ours, set otherwise", "peer": "proxy in user space", "kernel": "the kernel alone"}
DISTURBED: Final = " ~"
"""Behind a value of which at least one round was measured while others used the CPUs."""
RARE: Final = 0.005
"""System calls of which there are fewer for each unit, with every subject, are left out: they belong to the start or to timers."""


def groups(document: Document) -> list[str]:
    """Give the parts that the workloads belong to, in their order."""
    return list(dict.fromkeys(workload.group for workload in document.workloads.values()))


def figures(document: Document, family: int, group: str) -> Table:
    """Give one group's figures: a row each, a column for each subject that can run, and ours in relation to the best peer."""
    subjects = _measured(document)
    head = ["", "unit", *(document.subjects[name].title for name in subjects), "ours : best peer"]
    rows, disturbed = [], _disturbed(document)
    for name, workload in document.workloads.items():
        for figure in workload.figures if workload.group == group else ():
            best = document.best_peer(name, figure, family)
            cells = [_cell(document, (subject, name, family), figure, best[0] if best else "", disturbed) for subject in subjects]
            label = [Cell(f"{workload.title}: {figure.title}"), Cell(figure.unit)]
            rows.append([*label, *cells, ratio(document, name, figure, family)])
    return Table(head, rows)


def ratio(document: Document, workload: str, figure: FigureInfo, family: int = 4) -> Cell:
    """Give ours : best peer. A difference within the spreads of both is marked as a tie (=), else + is better, ! worse."""
    ours, best = document.value(OURS, workload, figure.key, family), document.best_peer(workload, figure, family)
    if not ours or not best:
        return Cell(EMPTY)
    found = mark(ours, best[1], higher_is_better=figure.higher_is_better)
    share = f"{ours.median / best[1].median:.2f} " if best[1].median else ""
    return Cell(f"{share}{found.value}", KINDS[found])


def goals(document: Document) -> Table | None:
    """Give what was to be reached and what was: a row for each goal that this run has the figure of; None if there is none."""
    disturbed = _disturbed(document)
    rows = [_goal(document, goal, figure, disturbed) for goal in GOALS if (figure := figure_of(goal, document))]
    return Table(["", "goal", *(f"IPv{family}" for family in document.families)], rows, is_text=True) if rows else None


def _goal(document: Document, goal: Goal, figure: FigureInfo, disturbed: set[tuple[str, str, int]]) -> list[Cell]:
    sign = "at least" if goal.relation is Relation.AT_LEAST else "at most"
    of = document.subjects[goal.against].title if goal.against in document.subjects else goal.against
    bound = f"{sign} {goal.bound:g} of {of}" if goal.against else f"{sign} {goal.bound:,g} {figure.unit}".rstrip()
    title = f"{document.workloads[goal.workload].title}: {figure.title}"
    return [Cell(title), Cell(bound), *(_outcome(document, goal, family, disturbed) for family in document.families)]


def _outcome(document: Document, goal: Goal, family: int, disturbed: set[tuple[str, str, int]]) -> Cell:
    found = judge(goal, document, family)
    if found.ratio is None:
        return Cell(found.verdict.value, VERDICTS[found.verdict])
    share = f"{found.ratio:.2f} of {document.subjects[found.against].title}" if found.against else number(found.ratio)
    is_disturbed = any((subject, goal.workload, family) in disturbed for subject in (OURS, found.against))
    return Cell(f"{share}: {found.verdict.value}{DISTURBED * is_disturbed}", VERDICTS[found.verdict])


def tally(document: Document) -> str:
    """Give one sentence on the goals; empty if this run measured none of them."""
    verdicts = [judge(goal, document, family).verdict for goal in GOALS for family in document.families]
    counts = {verdict: verdicts.count(verdict) for verdict in Verdict}
    known = len(verdicts) - counts[Verdict.UNKNOWN]
    if not known:
        return ""
    ties = f"{counts[Verdict.TIE]} within the spread of the bound"
    return f"{counts[Verdict.REACHED]} of {known} reached, {ties}, {counts[Verdict.MISSED]} missed."


def system_calls(document: Document) -> Iterator[Table]:
    """Give a table for each workload and family that was traced: a row for each call, a column for each subject."""
    for workload, family in dict.fromkeys((found.workload, found.family) for found in document.system_calls):
        traced = [found for found in document.system_calls if (found.workload, found.family) == (workload, family)]
        unit = next((found.unit for found in traced if found.unit), "unit")
        yield _traced(document, traced, f"{document.workloads[workload].title}, IPv{family}: system calls per {unit}")


def _traced(document: Document, traced: Sequence[SystemCalls], title: str) -> Table:
    totals = plain(["all", *(number(sum(found.per_unit.values())) for found in traced)])
    most: dict[str, float] = {}
    for found in traced:
        for name, count in found.per_unit.items():
            most[name] = max(count, most.get(name, 0.0))
    names = sorted((name for name, count in most.items() if count >= RARE), key=lambda name: -most[name])
    rows = [plain([name, *(_count(found.per_unit.get(name)) for found in traced)]) for name in names]
    return Table(["", *(document.subjects[found.subject].title for found in traced)], [totals, *rows], title)


def _count(count: float | None) -> str:
    return number(count) if count else EMPTY


def subjects(document: Document) -> Table:
    """Give what was measured: title, role, version, or why it could not be."""
    rows = [
        [Cell(found.title), Cell(ROLES.get(found.role, found.role)), Cell(found.version or EMPTY), Cell(found.reason, "reason")]
        for found in document.subjects.values()
    ]
    return Table(["", "what it is", "version", "why its cells are empty"], rows, is_text=True)


def machine(document: Document) -> Table:
    """Give the machine's properties, as the run kept them."""
    return Table(["", ""], [plain([name.replace("_", " "), str(value)]) for name, value in document.machine.items()], is_text=True)


def _measured(document: Document) -> list[str]:
    return [name for name, subject in document.subjects.items() if not subject.reason] or list(document.subjects)


def _disturbed(document: Document) -> set[tuple[str, str, int]]:
    return {(run.subject, run.workload, run.family) for run in document.runs if run.disturbed}


def _cell(document: Document, cell: tuple[str, str, int], figure: FigureInfo, best: str, disturbed: set[tuple[str, str, int]]) -> Cell:
    subject, workload, family = cell
    value = document.value(subject, workload, figure.key, family)
    if value is None:
        return Cell(EMPTY)
    return Cell(f"{spread(value)}{DISTURBED * (cell in disturbed)}", "best" if subject == best else "")
