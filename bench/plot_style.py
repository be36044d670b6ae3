"""How plots look, and their SVG made fit for a page: small, without references, in the page's own colours and fonts.

Drawn by matplotlib in the light colours; in the SVG each of them becomes a CSS variable, so that one drawing serves light and
dark. The palette is Okabe and Ito's, which the colour-blind can tell apart; kernel modes are grey and hatched besides.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

INK: Final = "#1f2328"
GRID: Final = "#d0d7de"
PAPER: Final = "#fefefe"
ROLES: Final = {"ours": "#d55e00", "variant": "#e69f00", "peer": "#0072b2", "kernel": "#7d8590"}
HATCHES: Final = {"kernel": "//////"}
COLOURS: Final = {"ink": INK, "grid": GRID, "paper": PAPER, **ROLES}
"""CSS variables by name, with their light values."""

WIDTH: Final = 4.4
"""Inches: a phone's width, so that nothing has to shrink there."""
INCH: Final = 72
SMALL: Final = 7.5
LEFT_TO_THE_PAGE: Final = re.compile(r" font-family: [^;\"]+;?| transform=\"rotate\(-0 [^\"]*\"")
DRAWN: Final = frozenset({"d", "x", "y", "transform", "width", "height"})
SVG: Final = "{http://www.w3.org/2000/svg}"
LINK: Final = "{http://www.w3.org/1999/xlink}href"
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text as text: a tenth of the size, and it can be searched
    "svg.hashsalt": "bench",  # the same run gives the same file
    "font.family": "DejaVu Sans",
    "font.size": SMALL,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.minor.bottom": False,
    "ytick.minor.left": False,
    "hatch.linewidth": 0.7,
}


def drawn(height: float, title: str, subtitle: str, draw: Callable[[Axes], None]) -> Figure:
    """Draw one plot below its two lines of title. height: of the axes and what belongs to them, in inches."""
    with mpl.rc_context(STYLE):
        whole = height + 0.5
        figure = Figure(figsize=(WIDTH, whole))
        figure.text(0.02, 1 - 0.17 / whole, title, fontsize=9, fontweight="bold", va="center")
        figure.text(0.02, 1 - 0.34 / whole, subtitle, fontsize=SMALL, va="center")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        draw(axes)
        return figure


def place(axes: Axes, left: float, right: float = 0.1, bottom: float = 0.42) -> None:
    """Leave that many inches free around the axes; the title's lines stand above."""
    figure = axes.get_figure()
    height = figure.get_figheight() if isinstance(figure, Figure) else 1.0
    axes.set_position((left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + 0.5) / height))


def svg(figure: Figure, name: str, label: str) -> str:
    """Give a figure as an SVG element for a page.

    name: unique within the page, of letters, digits and dashes; label: for those who hear it.
    """
    with mpl.rc_context(STYLE):
        written = io.StringIO()
        FigureCanvasSVG(figure)  # makes itself the figure's canvas
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(written.getvalue())  # noqa: S314 - matplotlib wrote it a moment ago
    width, height = root.attrib["width"].removesuffix("pt"), root.attrib["height"].removesuffix("pt")
    _rename(root, name)
    _slim(root)
    root.attrib = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label}
    text = ET.tostring(root, encoding="unicode")
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    return LEFT_TO_THE_PAGE.sub("", text)


def _rename(root: ET.Element, name: str) -> None:
    """Drop names that nobody refers to, and make the others unique within the page."""
    used = set(re.findall(r'"?#([\w-]+)', ET.tostring(root, encoding="unicode")))
    for node in root.iter():
        node.tag = node.tag.removeprefix(SVG)
        if "id" in node.attrib:
            found = node.attrib.pop("id")
            if found in used:
                node.set("id", f"{name}-{found}")
        link = node.attrib.pop(LINK, "")
        if link:
            node.set("href", f"#{name}-{link[1:]}")
        for key, value in node.attrib.items():
            if "url(#" in value:
                node.set(key, value.replace("url(#", f"url(#{name}-"))


def _slim(node: ET.Element) -> None:
    """Leave out what the page says once for all plots, groups that group nothing, and more digits than can be seen."""
    for key in DRAWN & node.attrib.keys():
        node.set(key, re.sub(r"(\.\d)\d+", r"\1", node.attrib[key]))
    children = []
    for child in node:
        _slim(child)
        if child.tag == "style" or child.tag.startswith("{"):  # metadata's namespaces
            continue
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    node[:] = [child for child in children if child.tag not in {"defs", "metadata"} or len(child)]
    node.tail = None
    if node.tag != "text":
        node.text = None
