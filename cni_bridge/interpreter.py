"""The Python that plugins are run by: found, asked what it can do, and used to compile for itself.

Owns its processes; knows nothing of where plugins are installed. It may live below another root folder than this process
sees, as a node's does for a container: then everything is done below that root, and every path is meant there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OLDEST: Final = (3, 11)
WHERE: Final = ("/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3")
"""Where a node below another root may have one. Names without a version outlive an upgrade of the distribution."""
LONGEST_LINE: Final = 127
"""Bytes of a `#!` line that Linux read before 5.1 (BINPRM_BUF_SIZE less the final zero)."""
SECONDS: Final = 120
_BELOW: Final = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); os.execv(sys.argv[2], sys.argv[2:])"
_WHAT_IT_IS: Final = """
import importlib.util, json, os, sys
missing = []
for name in sys.argv[1:]:
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
if not hasattr(os, "setns") and "_ctypes" not in missing:
    missing += [] if importlib.util.find_spec("_ctypes") else ["_ctypes"]
print(json.dumps([sys.implementation.name, sys.version_info[:3], importlib.util.MAGIC_NUMBER.hex(), missing]))
"""
LEAN_MODULES: Final = ("_json", "_signal", "_socket", "_struct", "errno", "fcntl", "marshal", "posix", "time")


class Unusable(Exception):
    """There is no interpreter at that path, or none that can run the plugins; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that runs: its path for a `#!` line, its byte code's magic number in hexadecimal, lacking modules of the fast way."""

    path: str
    version: tuple[int, ...]
    magic: str
    missing: tuple[str, ...]
    root: str = ""

    def run(self, code: str, *arguments: str) -> str:
        """Run Python code as the plugins run, without site and environment; give its stdout. Raises Unusable."""
        return _run(self.path, self.root, code, *arguments)


def find(path: str = "", root: str = "") -> Interpreter:
    """Ask the interpreter at path, else this process's own, else the first that there is below root. Raises Unusable.

    A path that is given is taken as it is. Of the other names of this process's own the one without a version is taken where
    it leads to the same program: /usr/bin/python3 is still there when the distribution has gone on to the next version, and
    can then say what to do.
    """
    if path:
        return _checked(path, root)
    if not root:
        return _checked(_lasting(Path(sys.executable).resolve()), root)
    reasons = []
    for candidate in WHERE:
        try:
            return _checked(candidate, root)
        except Unusable as reason:
            reasons.append(str(reason))
    raise Unusable(f"no Python {OLDEST[0]}.{OLDEST[1]} or later below {root}: {'; '.join(reasons)}")


def _lasting(real: Path) -> str:
    general = real.with_name("python3")
    return str(general if general.exists() and general.samefile(real) else real)


def _checked(path: str, root: str) -> Interpreter:
    answer = json.loads(_run(path, root, _WHAT_IT_IS, *LEAN_MODULES))
    implementation, version, magic, missing = answer
    found = Interpreter(path, tuple(version), magic, tuple(missing), root)
    if implementation != "cpython" or found.version < OLDEST:
        shown = ".".join(map(str, version))
        raise Unusable(f"{path} is {implementation} {shown}: CPython {OLDEST[0]}.{OLDEST[1]} or later is needed")
    line = f"#!{found.path} -ISB"
    if len(line.encode()) > LONGEST_LINE or any(character.isspace() for character in found.path):
        raise Unusable(f"{found.path} cannot stand in a #! line: {LONGEST_LINE} bytes and no white space are possible")
    return found


def _run(path: str, root: str, code: str, *arguments: str) -> str:
    command = [path, "-ISB", "-c", code, *arguments]
    if not Path(path).is_absolute():
        raise Unusable(f"{path} is no absolute path")
    try:
        below = [sys.executable, "-c", _BELOW, root] if root else []
        done = subprocess.run([*below, *command], capture_output=True, text=True, check=False, timeout=SECONDS)
    except OSError as reason:
        raise Unusable(f"{path} does not run: {reason.strerror}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unusable(f"{path} does not run{f' below {root}' if root else ''}: {said[-1]}")
    return done.stdout
