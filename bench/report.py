"""A run as a report: its chapters in order, and as Markdown. report_html.py writes the same chapters with plots between them.

From the Document alone: a file of an earlier run gives the same report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import report_tables
from bench.report_parts import Chapter
from bench.report_sections import sections

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.document import Document
    from bench.report_parts import Cell, Table


def chapters(document: Document) -> Iterator[Chapter]:
    """Give the whole report; what was not measured has no chapter."""
    yield from _goals(document)
    for family in document.families:
        for group in report_tables.groups(document):
            title = f"{group[0].upper()}{group[1:]}, IPv{family}"
            yield Chapter(title, tables=[report_tables.figures(document, family, group)], about=("group", group, family))
    if calls := list(report_tables.system_calls(document)):
        yield Chapter("System calls", tables=calls, notes=_tracing(document))
    yield from sections(document.sections)
    if missing := [*_empty(document), *_failures(document), *document.remarks]:
        yield Chapter("Empty cells and failures", notes=missing)
    yield Chapter("Machine and versions", [_setting(document)], [report_tables.machine(document), report_tables.subjects(document)])


def markdown(document: Document, level: int = 2) -> str:
    """Give the whole report. level: of its headings."""
    return "\n".join(_block(introduction(document))) + "\n" + markdown_of(chapters(document), level)


def markdown_of(found: Iterable[Chapter], level: int = 2) -> str:
    """Write chapters as Markdown."""
    return "\n".join(line for chapter in found for line in _chapter(chapter, level)).rstrip() + "\n"


def introduction(document: Document) -> list[str]:
    """Give what a reader must know before any figure, warnings first."""
    read = f"Medians of {document.rounds} rounds of {document.seconds:g} s, ± half the distance between the least and the greatest."
    marks = "Ours : best peer: + better, ! worse, = within the spread; the best peer is in bold, kernel modes aside."
    return [*warnings(document), f"{read} CPU is the user and system time of the proxy's processes. {marks}"]


def warnings(document: Document) -> list[str]:
    """Say what takes figures their worth."""
    found = []
    if not document.complete:
        found.append("This run was interrupted: what it had until then is here.")
    disturbed = sum(run.disturbed for run in document.runs)
    if disturbed:
        share = f"{disturbed} of {len(document.runs)} measurements"
        found.append(f"During {share} others used the CPUs too (marked ~): take no figure from those.")
    return found


def _goals(document: Document) -> Iterator[Chapter]:
    table = report_tables.goals(document)
    if table:
        tally = report_tables.tally(document)
        yield Chapter("Goals", [tally] if tally else [], [table])


def _tracing(document: Document) -> list[str]:
    tools = list(dict.fromkeys(found.tool for found in document.system_calls if found.tool))
    said = f"Counted {f'with {chr(32).join(tools)} ' * bool(tools)}in a run of its own."
    slow = " Under strace a proxy is so slow that more is ready whenever it looks: it makes fewer calls per unit than else."
    return [said + slow * any(tool.startswith("strace") for tool in tools)]


def _empty(document: Document) -> Iterator[str]:
    """Give the reason of each empty cell, once for all cells that share it."""
    cells: dict[tuple[str, str], list[str]] = {}
    for cell in document.empty:
        where = f"{document.workloads[cell.workload].title}{f' (IPv{cell.family})' * (len(document.families) > 1)}"
        cells.setdefault((document.subjects[cell.subject].title, cell.reason), []).append(where)
    for (title, reason), wheres in cells.items():
        yield f"{title}: {reason}: {'; '.join(wheres)}."
    for subject in document.subjects.values():
        if subject.reason:
            yield f"{subject.title}: {subject.reason}: all of its cells."


def _failures(document: Document) -> Iterator[str]:
    for run in document.runs:
        if run.failed:
            where = f"{document.workloads[run.workload].title}, IPv{run.family}, round {run.round + 1}"
            what = f"{run.failed} failed beside {run.units}"
            yield f"{document.subjects[run.subject].title}, {where}: {what}{f' ({run.error})' * bool(run.error)}."


def _setting(document: Document) -> str:
    setting = f"Measured {document.made}."
    if document.conditions is None:
        return setting
    found = document.conditions
    others = f"strangers used {found.others:.2f} CPUs on average, the hypervisor took {found.stolen:.2f}"
    return f"{setting} It took {found.seconds / 60:.0f} minutes, in which {others}."


def _chapter(chapter: Chapter, level: int) -> Iterator[str]:
    yield from ("#" * level + f" {chapter.title}", "")
    yield from _block(chapter.before)
    for table in chapter.tables:
        yield from _block([f"{table.title}:"] if table.title else [])
        yield from (*_table(table), "")
    yield from _block(chapter.notes, bullet="* " if len(chapter.notes) > 1 else "")


def _block(texts: list[str], bullet: str = "") -> list[str]:
    gap = [] if bullet else [""]
    return [line for text in texts for line in (bullet + text, *gap)] + [""] * bool(texts and bullet)


def _table(table: Table) -> Iterator[str]:
    yield _row(table.head)
    yield _row(["---", *(("---" if table.is_text else "---:") for _ in table.head[1:])])
    yield from (_row([_text(cell) for cell in row]) for row in table.rows)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _text(cell: Cell) -> str:
    return f"**{cell.text}**" if cell.kind == "best" else cell.text
