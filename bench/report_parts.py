"""What a report consists of, as values: chapters with tables and sentences, whatever they are written as later. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """One place of a table. kind: "", or what it stands out by: better, worse, tie, best, reason."""

    text: str
    kind: str = ""


class Table(NamedTuple):
    """Rows of cells below a head; the first column has the rows' names. title: what it shows, or empty. is_text: cells are no numbers."""

    head: list[str]
    rows: list[list[Cell]]
    title: str = ""
    is_text: bool = False


class Chapter(NamedTuple):
    """A heading, what is to be said first, tables, and what is to be said of them.

    about: which plots belong here: ("group", its name, family), ("section", its name), or nothing.
    """

    title: str
    before: list[str] = []  # noqa: RUF012 - never changed
    tables: list[Table] = []  # noqa: RUF012 - never changed
    notes: list[str] = []  # noqa: RUF012 - never changed
    about: tuple[str | int, ...] = ()


def plain(row: list[str]) -> list[Cell]:
    """Give a row whose cells do not stand out."""
    return [Cell(text) for text in row]


def tables_of(markdown: str) -> tuple[list[Table], list[str]]:
    """Take Markdown apart that consists of tables and lines of text: the tables, and the lines outside of them."""
    tables: list[Table] = []
    texts: list[str] = []
    is_inside = False
    for line in (line.strip() for line in markdown.splitlines()):
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            texts += [line] if line else []
        elif not is_inside:
            tables.append(Table(cells, []))
        elif any(cell.strip("-:") for cell in cells):
            tables[-1].rows.append(plain(cells))
        is_inside = bool(cells)
    return tables, texts
