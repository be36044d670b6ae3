"""An earlier run's report again: `python -m bench report RUN.json`. Markdown on stdout, or into a document; a page with plots.

A document takes it between two lines of its own, which stay: `<!-- bench: ... -->` and `<!-- end -->`. Needs no root.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.document import read
from bench.entry import unusable
from bench.report import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.document import Document

BLOCK: Final = re.compile(r"(?P<begin><!-- bench: [^\n]*-->\n)(?P<report>.*?)(?P<end><!-- end -->)", re.DOTALL)
LEVEL_WITHIN: Final = 3
"""Of the report's headings inside a document."""


class NoPlace(ValueError):
    """A document without the two lines between which a report belongs."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench report", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN.json", help="a run, as `python -m bench run` keeps it")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with all plots")
    parser.add_argument("--into", type=Path, metavar="FILE", help="write the report into this document instead of printing it")
    return parser.parse_args(argv)


def placed(text: str, document: Document) -> str:
    """Give a document's text with the report between its two lines; raises NoPlace without them."""
    if not BLOCK.search(text):
        raise NoPlace("there are no lines `<!-- bench: ... -->` and `<!-- end -->` to write between")
    report = markdown(document, LEVEL_WITHIN)
    return BLOCK.sub(lambda found: f"{found['begin']}\n{report}\n{found['end']}", text, count=1)


def write_page(document: Document, path: Path) -> None:
    """Write the page with all plots; raises OSError. Takes some seconds."""
    from bench.report_html import page  # noqa: PLC0415 - matplotlib takes half a second to load, which no other command needs

    path.write_text(page(document), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 if a file cannot be read, written, or used."""
    options = parse(argv)
    try:
        document = read(options.run)
        if options.into:
            options.into.write_text(placed(options.into.read_text(encoding="utf-8"), document), encoding="utf-8")
        if options.html:
            write_page(document, options.html)
        elif not options.into:
            print(markdown(document), end="")
    except NoPlace as error:
        return unusable("bench report", NoPlace(f"{options.into}: {error}"))
    except (OSError, ValueError) as error:
        return unusable("bench report", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
