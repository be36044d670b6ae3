"""Writes what README.md says about the code, or checks it: the reading order with line counts, the tests behind guarantees.

`--write` brings the file up to date, `--check` exits 1 and says what is out of date. The order of reading is kept
here; what a module is for is the first sentence of its own docstring. A row of the table of guarantees links its
test by name, `[test_name](tests/file.py)`: the line is added, and a test that does not exist is an error.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
README: Final = ROOT / "README.md"

# Chapter -> its modules, in the order in which they are best read; a folder stands for the rest of what it holds.
READING_ORDER: Final = {
    "The facts, and what follows from them: no I/O": (
        "core/model.py", "core/state.py", "core/policy.py", "core/plan.py", "core/balance.py", "core/source_address.py",
        "core/local_ports.py", "core/ruleset.py", "core/addresses.py", "core/decode.py", "core/wire.py", "core",
    ),
    "The one loop that carries it out": ("reconcile/loop.py", "reconcile/serving.py", "reconcile"),
    "How bytes travel": (
        "dataplane/reactor.py", "dataplane/listeners.py", "dataplane/tcp.py", "dataplane/dialing.py", "dataplane/upstream.py",
        "dataplane/connection.py", "dataplane/relay.py", "dataplane/splicing.py", "dataplane/resetting.py", "dataplane/udp.py",
        "dataplane/udp_flow.py", "dataplane/flows.py", "dataplane",
    ),
    "How the kernel is told": (
        "redirect/base.py", "redirect/nftables.py", "redirect/installed_table.py", "redirect/policy_routes.py", "redirect/routes.py",
        "redirect/none.py", "redirect/placement.py", "redirect",
    ),
    "Where the facts come from: an API server": (
        "sources/kubernetes/source.py", "sources/kubernetes/reflector.py", "sources/kubernetes/watching.py",
        "sources/kubernetes/listing.py", "sources/kubernetes/watch_event.py", "sources/kubernetes/lines.py",
        "sources/kubernetes/store.py", "sources/kubernetes/client.py", "sources/kubernetes/api_errors.py",
        "sources/kubernetes/access.py", "sources/kubernetes", "sources/checkpoint.py", "sources/state_file.py",
    ),
    "Where the facts come from: a folder": ("sources/manifests.py", "sources/folder.py", "sources/documents.py", "sources"),
    "What is seen from outside": ("admin",),
    "The process": ("app.py", "cli.py", "config.py", ""),
}  # fmt: skip

SECTION: Final = "<!-- {0}: kept by scripts/readme.py -->\n(?P<{0}>.*?)<!-- end -->"
TEST_LINK: Final = re.compile(r"\[(?P<name>test_\w+)\]\((?P<file>tests/[\w/]+\.py)(?:#L\d+)?\)")


def reading_order() -> str:
    """Make the table of modules: each once, empty packages left out."""
    left = {path for path in (ROOT / "uproxy").rglob("*.py") if path.name not in {"__init__.py", "__main__.py"}}
    rows = ["| read | lines | what it is |", "|---|---:|---|"]
    for chapter, places in READING_ORDER.items():
        found = [path for place in places for path in _take(ROOT / "uproxy" / place, left)]
        rows.append(f"| **{chapter}** | **{sum(map(_lines, found)):,}** | |")
        rows += [f"| {_link(path)} | {_lines(path)} | {_purpose(path)} |" for path in found]
    return "\n".join(rows) + "\n"


def _take(place: Path, left: set[Path]) -> list[Path]:
    found = sorted(path for path in left if path == place or place in path.parents)
    left.difference_update(found)
    return found


def _link(path: Path) -> str:
    return f"[{path.relative_to(ROOT / 'uproxy')}]({path.relative_to(ROOT)})"


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _purpose(path: Path) -> str:
    """Give the first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
    return re.split(r"(?<=[a-z`)])\.(?= |$)", text, maxsplit=1)[0].replace("|", "\\|")


def with_lines(table: str) -> str:
    """Add to each link to a test the line on which it stands; raises LookupError when there is no such test."""
    return TEST_LINK.sub(_with_line, table)


def _with_line(match: re.Match[str]) -> str:
    name, file = match["name"], match["file"]
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines() if (ROOT / file).exists() else []
    for number, line in enumerate(lines, start=1):
        if re.match(rf"\s*(async )?def {name}\(", line):
            return f"[{name}]({file}#L{number})"
    raise LookupError(f"README.md: there is no {name} in {file}")


def replace(text: str, section: str, content: str | None = None) -> str:
    """Put content between a section's markers; without content: what stands there, its links brought up to date."""
    match = re.search(SECTION.format(section), text, re.DOTALL)
    if match is None:
        raise LookupError(f"README.md: the markers of {section} are missing")
    return text[: match.start(section)] + (content or with_lines(match[section])) + text[match.end(section) :]


def main() -> str:
    """Write or check; gives what is wrong, empty if nothing is."""
    text = README.read_text(encoding="utf-8")
    try:
        wanted = replace(replace(text, "reading_order", reading_order()), "guarantees")
    except LookupError as error:
        return str(error)
    if "--write" in sys.argv:
        README.write_text(wanted, encoding="utf-8")
        return ""
    return "" if text == wanted else "README.md is out of date: run `make docs`"


if __name__ == "__main__":
    sys.exit(main() or 0)
