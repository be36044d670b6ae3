"""Running another program to its end: found in PATH, fed from memory, its output kept.

Knows no program. stdin, stdout and stderr are files in memory: no pipe can fill up while nobody reads it. The module
`subprocess` does this and more, but importing it costs 9 ms of a run of 20.
"""

from __future__ import annotations

import errno

from cni_bridge.fast import posix

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
"""Where distributions put what root alone runs: a runtime's own PATH may leave them out."""
_SIGPIPE, _SIGXFSZ = 13, 25  # the interpreter ignores both, and a child would inherit that
_READ_BYTES = 65536


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
    files = [posix.memfd_create(stream) for stream in ("stdin", "stdout", "stderr")]
    try:
        _fill(files[0], stdin.encode("utf-8", "surrogateescape"))
        actions = [(posix.POSIX_SPAWN_DUP2, file, place) for place, file in enumerate(files)]
        process = posix.posix_spawn(path, [path, *arguments], posix.environ, file_actions=actions, setsigdef=(_SIGPIPE, _SIGXFSZ))
        _, status = posix.waitpid(process, 0)
        return Done(posix.waitstatus_to_exitcode(status), _content(files[1]), _content(files[2]))
    finally:
        for file in files:
            posix.close(file)


def _fill(descriptor: int, data: bytes) -> None:
    while data:
        data = data[posix.write(descriptor, data) :]
    posix.lseek(descriptor, 0, 0)


def _content(descriptor: int) -> bytes:
    """Read from the beginning: the descriptor's position is where the program stopped to write."""
    chunks = []
    posix.lseek(descriptor, 0, 0)
    while chunk := posix.read(descriptor, _READ_BYTES):
        chunks.append(chunk)
    return b"".join(chunks)
