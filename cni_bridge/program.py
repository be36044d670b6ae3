"""Running another program to its end: found in PATH, fed from memory, its output kept.

Knows no program; `spawned` has the process.
"""

from __future__ import annotations

import errno

from cni_bridge import spawned
from cni_bridge.fast import posix

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
"""Where distributions put what root alone runs: a runtime's own PATH may leave them out."""


class Done:
    """What a program left: its exit code, negative for a signal's number, and its output as text."""

    __slots__ = ("code", "stderr", "stdout")

    def __init__(self, code: int, stdout: bytes, stderr: bytes) -> None:
        self.code = code
        self.stdout = stdout.decode("utf-8", "surrogateescape")
        self.stderr = stderr.decode("utf-8", "replace").strip()


def find(name: str) -> str:
    """Give the program's path; empty when it is nowhere."""
    path = posix.environ.get(b"PATH", b"").decode("utf-8", "surrogateescape")
    for folder in (*path.split(":"), *_SYSTEM_FOLDERS):
        if folder and posix.access(f"{folder}/{name}", posix.X_OK):
            return f"{folder}/{name}"
    return ""


def run(name: str, *arguments: str, stdin: str = "") -> Done:
    """Run the program and wait for its end. Raises FileNotFoundError when it is nowhere, OSError when it cannot be run."""
    path = find(name)
    if not path:
        raise FileNotFoundError(errno.ENOENT, "there is no such program in PATH", name)
    code, (stdout, stderr) = spawned.run([path, *arguments], posix.environ, stdin.encode("utf-8", "surrogateescape"), keeps=2)
    return Done(code, stdout, stderr)
