"""A run as one HTML file: the report's chapters with plots between them. No scripts, nothing from elsewhere; light and dark.

The page is well-formed XML as well as HTML, so that anything can check it.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from bench import report_plots
from bench.plot_style import svg
from bench.report import chapters, introduction, warnings
from bench.report_page import chapter_html, paragraph, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from bench.document import Document
    from bench.report_parts import Chapter

TITLE: Final = "uproxy next to its peers"
KEY: Final = {
    "ours": "uproxy",
    "variant": "uproxy, set otherwise",
    "peer": "proxies in user space",
    "kernel": "kernel modes (hatched)",
}
PLOTTED: Final = "Bars are medians, dots are rounds; the number behind ours is ours : best peer."


def page(document: Document) -> str:
    """Give the whole file."""
    found = list(chapters(document))
    links = " ".join(f'<a href="#chapter-{number}">{escape(chapter.title)}</a>' for number, chapter in enumerate(found))
    warned = len(warnings(document))
    said = (paragraph(text, "warning" if place < warned else "") for place, text in enumerate(introduction(document)))
    bodies = (chapter_html(chapter, number, _drawings(document, chapter, number)) for number, chapter in enumerate(found))
    return whole(TITLE, [*said, _key(), f"<nav>{links}</nav>", *bodies])


def _key() -> str:
    colours = "".join(f'<span class="key" style="background: var(--{role})"></span>{escape(name)}' for role, name in KEY.items())
    return f"<p>{escape(PLOTTED)}<br/>{colours}</p>"


def _drawings(document: Document, chapter: Chapter, number: int) -> list[str]:
    return [svg(figure, f"plot-{number}-{place}", _label(figure)) for place, figure in enumerate(_figures(document, chapter))]


def _figures(document: Document, chapter: Chapter) -> Iterator[Figure]:
    match chapter.about:
        case ("group", str(group), int(family)):
            yield from report_plots.of_group(document, group, family)
        case ("section", str(name)):
            yield from report_plots.of_section(document, name)


def _label(figure: Figure) -> str:
    return ", ".join(text.get_text() for text in figure.texts)
