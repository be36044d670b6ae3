"""The executable of one plugin: a few lines of Python that name the interpreter, the modules and the byte code.

Owns the text and how an installation is recognised by it; must not touch files. The lines are compiled at every start, so
they are few: byte code first, else the sources, else an error object that says what to do. Sources are for an interpreter that
became another one: it is started once more, by its own name and without what `home` laid out for the former. Only the kernel
can speak when the interpreter itself is gone: "no such file or directory", though the executable is there.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Final

from cni_bridge import bundle, home, interpreter

if TYPE_CHECKING:
    from pathlib import Path

UNUSABLE: Final = 109
"""The error code of an executable whose interpreter or modules cannot be used any more."""
HEAD_BYTES: Final = 4096
_TEXT: Final = """\
{first_line}
# The CNI plugin {name} of cni_bridge, written by `cni-bridge install` for {python} {version} ({magic}).
# Its modules: {folder}
try:
{start}
except OSError:
    pass
from posix import execv
execv({python!r}, [{python!r}, '-ISBc', '''{otherwise}'''])
"""
_OTHERWISE: Final = """
import sys
sys.path.insert(0, {folder!r})
try:
    from cni_bridge.uncompiled import run
    run({name!r})
except Exception as reason:
    print(type(reason).__name__, reason, sep=": ", file=sys.stderr)
    print({failure!r})
    sys.exit(1)
"""
"""Kept as text: compiling it would cost 0.1 ms at every start."""
_FAILURE: Final = (
    '{"cniVersion": "1.0.0", "code": %d, "msg": "%s cannot run: run `cni-bridge install` again", "details": "stderr says why"}'
)
_OURS: Final = re.compile(
    r"#!\S+ -ISB?\n"
    r"# The CNI plugin (?P<name>\S+) of cni_bridge, written by `cni-bridge install` "
    r"for (?P<python>\S+) (?P<version>\S+) \((?P<magic>\w+)\)\.\n"
    r"# Its modules: (?P<folder>.+)\n",
)


def write(name: str, *, python: str, version: str, magic: str, folder: Path) -> str:
    """Give the text of an executable. folder: where the package and the bundle are, by the path that the node knows."""
    start = textwrap.indent(bundle.start(folder / f"{name}.bundle").rstrip(), "    ")
    otherwise = _OTHERWISE.format(folder=str(folder), name=name, failure=_FAILURE % (UNUSABLE, name))
    said = {"name": name, "python": python, "version": version, "magic": magic, "folder": folder}
    return _TEXT.format(first_line=_first_line(folder / home.LINK, python), start=start, otherwise=otherwise, **said)


def _first_line(link: Path, python: str) -> str:
    """Name the link, or the interpreter itself where the link's path is not possible in a first line."""
    line = f"#!{link} -ISB"
    is_possible = line.count(" ") == 1 and len(line.encode()) <= interpreter.LONGEST_LINE
    return line if is_possible else f"#!{python} -ISB"


def read(head: bytes) -> dict[str, str] | None:
    """Give name, python, version, magic and folder from an executable's first bytes; None when it is none of ours."""
    found = _OURS.match(head.decode("utf-8", "replace"))
    return found.groupdict() if found else None
