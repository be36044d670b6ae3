"""The executable of one plugin: a few lines of Python that name the interpreter, the modules and the byte code.

Owns the text and how an installation is recognised by it; must not touch files. The lines are compiled at every start, so
they are few: byte code first, else the sources, else an error object that says what to do. Only the kernel can speak when the
interpreter itself is gone: "no such file or directory", though the executable is there.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Final

from cni_bridge import bundle

if TYPE_CHECKING:
    from pathlib import Path

UNUSABLE: Final = 109
"""The error code of an executable whose interpreter or modules cannot be used any more."""
HEAD_BYTES: Final = 4096
_TEXT: Final = """\
#!{python} -IS
# The CNI plugin {name} of cni_bridge, written by `cni-bridge install` for {python} {version} ({magic}).
# Its modules: {folder}
try:
{start}
except OSError:
    pass
exec('''{otherwise}''')
"""
_OTHERWISE: Final = """
import sys
sys.path.insert(0, {folder!r})
sys.dont_write_bytecode = True
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
    r"#!(?P<python>\S+) -IS\n"
    r"# The CNI plugin (?P<name>\S+) of cni_bridge, written by `cni-bridge install` for \S+ (?P<version>\S+) \((?P<magic>\w+)\)\.\n"
    r"# Its modules: (?P<folder>.+)\n",
)


def write(name: str, *, python: str, version: str, magic: str, folder: Path) -> str:
    """Give the text of an executable. folder: where the package and the bundle are, by the path that the node knows."""
    start = textwrap.indent(bundle.start(folder / f"{name}.bundle").rstrip(), "    ")
    otherwise = _OTHERWISE.format(folder=str(folder), name=name, failure=_FAILURE % (UNUSABLE, name))
    return _TEXT.format(python=python, name=name, version=version, magic=magic, folder=folder, start=start, otherwise=otherwise)


def read(head: bytes) -> dict[str, str] | None:
    """Give name, python, version, magic and folder from an executable's first bytes; None when it is none of ours."""
    found = _OURS.match(head.decode("utf-8", "replace"))
    return found.groupdict() if found else None
