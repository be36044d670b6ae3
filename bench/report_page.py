"""Pieces of a page: tables and chapters as HTML that is well-formed XML too. Knows nothing of runs and plots."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report_parts import Cell, Chapter, Table

STYLE: Final = Path(__file__).with_name("report.css")


def whole(title: str, parts: Sequence[str]) -> str:
    """Give a page of these parts, which are HTML already."""
    head = '<meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>'
    style = f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>"
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<title>{escape(title)}</title>\n{style}</head>\n<body>\n{body}\n</body></html>\n'


def table(found: Table) -> str:
    """Give a table, which scrolls by itself where it is wider than the page."""
    caption = f"<caption>{escape(found.title)}</caption>" if found.title else ""
    head = "".join(f"<th>{escape(text)}</th>" for text in found.head)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in found.rows)
    kind = ' class="texts"' if found.is_text else ""
    return f'<div class="wide"><table{kind}>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    kind = f' class="{cell.kind}"' if cell.kind else ""
    return f"<td{kind}>{escape(cell.text)}</td>"


def paragraph(text: str, kind: str = "") -> str:
    """Give a paragraph; kind: its class."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def chapter_html(chapter: Chapter, number: int = 0, drawings: Sequence[str] = ()) -> str:
    """Give a chapter; where it has plots its tables can be unfolded. number: within the page; drawings: SVG elements."""
    parts = [f'<h2 id="chapter-{number}">{escape(chapter.title)}</h2>', *map(paragraph, chapter.before)]
    tables = "\n".join(map(table, chapter.tables))
    parts += [f'<div class="plots">{"".join(drawings)}</div>'] if drawings else []
    parts += [f"<details><summary>The figures as a table</summary>{tables}</details>" if drawings else tables]
    parts += [f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in chapter.notes)}</ul>"] if chapter.notes else []
    return "\n".join(parts)
