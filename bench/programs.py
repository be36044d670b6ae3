"""Where programs are that are not ours: in PATH, in sbin, or unpacked below the project's cache folder (bin and sbin).

Where there is none to be had, `build` makes one from sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CACHE: Final = Path(__file__).resolve().parent.parent / ".cache"
BUILT: Final = CACHE / "bench"
"""What measurements have built for themselves."""
_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")
_UNPACKED = ("usr/sbin", "usr/bin")


def find(name: str) -> str | None:
    """Give the path of a program; None if this machine has none. What the system installed comes first."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_SBIN))
    return shutil.which(name, path=path) or next(filter(None, (_unpacked(f"{folder}/{name}") for folder in _UNPACKED)), None)


def find_file(path: str) -> str | None:
    """Give an absolute path if it exists, else the same one below the cache folder, else None."""
    return path if Path(path).exists() else _unpacked(path.lstrip("/"))


def build(program: Path, command: Callable[[Path], Sequence[str]], seconds: float, variables: Mapping[str, str] | None = None) -> None:
    """Make a program by the command that writes it to a path; others see all of it or nothing.

    Raises OSError, subprocess.CalledProcessError with its words, subprocess.TimeoutExpired.
    """
    program.parent.mkdir(parents=True, exist_ok=True)
    draft = program.with_name(f".{program.name}-{os.getpid()}")
    try:
        subprocess.run(
            command(draft), env={**os.environ, **(variables or {})}, capture_output=True, text=True, timeout=seconds, check=True
        )
        draft.replace(program)
    finally:
        draft.unlink(missing_ok=True)


def _unpacked(relative: str) -> str | None:
    return next((str(path) for path in sorted(CACHE.glob(f"**/{relative}"))), None)


def environment(program: str) -> dict[str, str]:
    """Give the variables that an unpacked program needs to find the libraries unpacked with it."""
    root = next((Path(program).parents[2] for folder in _UNPACKED if Path(program).parent.match(folder)), None)
    if root is None or not root.is_relative_to(CACHE):
        return {}
    return {"LD_LIBRARY_PATH": os.pathsep.join(str(path) for path in sorted(root.glob("usr/lib/*-linux-gnu")))}
