"""What the other measurements of a run kept (scale, cluster, cni), as chapters. From what is kept alone.

A section has a title, its table as Markdown, the reason why some of it is missing (or none), and the runs that it was made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bench.report_parts import Chapter, tables_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONTROL_PLANE: Final = ("scale", "cluster")


def sections(kept: Mapping[str, dict[str, Any]]) -> Iterator[Chapter]:
    """Give a chapter for each section that is there."""
    for name, section in kept.items():
        tables, texts = tables_of(section.get("markdown", ""))
        title = f"{'Control plane: ' * (name in CONTROL_PLANE)}{section.get('title', name)}"
        reasons = [section.get("reason", ""), *(f"{who}: {why}" for who, why in section.get("left_out", {}).items())]
        missing = [f"Not measured: {reason}." for reason in reasons if reason]
        yield Chapter(title, missing, tables, [" ".join(texts)] if texts else [], about=("section", name))
