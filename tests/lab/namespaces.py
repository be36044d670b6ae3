"""Network namespaces: making many at once, running code and programs inside, removing them whatever happens.

Sockets and child processes belong to the namespace of the thread that made them, so everything is done on
a thread of its own that has entered the namespace; the test's own thread never moves. Names carry the
process id of the test run: what a killed run left behind is removed by the next one.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import secrets
import signal
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")

FOLDER = Path("/run/netns")
CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_OURS = re.compile(r"uplab(\d+)-")


def enter(name: str) -> None:
    """Move the calling thread into the namespace (setns(2)); raises OSError."""
    with (FOLDER / name).open() as handle:
        if _LIBC.setns(handle.fileno(), CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), name)


class Namespace:
    """One network namespace, by its name under /run/netns."""

    def __init__(self, name: str) -> None:
        self.name = name

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work inside the namespace and give its result or its exception."""
        future: Future[T] = Future()

        def inside() -> None:
            try:
                enter(self.name)
                future.set_result(work(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is raised again on the caller's thread
                future.set_exception(error)

        threading.Thread(target=inside, name=f"in {self.name}", daemon=True).start()
        return future.result()

    def run(self, *argv: str, script: str | None = None) -> str:
        """Run a program inside to its end and give its stdout; raises AssertionError with its stderr if it fails."""
        done = self.call(subprocess.run, argv, input=script, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{self.name}: {' '.join(argv)}: {done.stderr.strip()}"
        return str(done.stdout)

    def ip(self, *lines: str) -> None:
        """Run ip commands, one per line, in one process."""
        batch(lines, "-n", self.name)

    def nft(self, script: str) -> str:
        """Run an nft script."""
        return self.run("nft", "-f", "-", script=script)

    def sysctl(self, settings: dict[str, str | int]) -> None:
        """Set sysctls by their dotted names."""
        self.call(_write_sysctls, settings)

    def read_sysctl(self, name: str) -> str:
        """Read one sysctl."""
        return self.call(_sysctl_path(name).read_text).strip()

    def processes(self) -> list[int]:
        """List the ids of the processes inside."""
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]


def _sysctl_path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _write_sysctls(settings: dict[str, str | int]) -> None:
    for name, value in settings.items():
        _sysctl_path(name).write_text(str(value))


def batch(lines: Iterable[str], *options: str) -> None:
    """Run ip commands in one process of ip; raises AssertionError naming the one that failed."""
    script = "\n".join(lines)
    done = subprocess.run(["ip", *options, "-batch", "-"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(options)}: {done.stderr.strip()}\n{script}"


class Namespaces:
    """The namespaces of one lab: made together, removed together, also when the test run is interrupted."""

    def __init__(self) -> None:
        self._prefix = f"uplab{os.getpid()}-{secrets.token_hex(2)}-"
        self._made: list[Namespace] = []
        atexit.register(self.remove)

    def make(self, *names: str) -> list[Namespace]:
        """Make a namespace for each name, with its loopback interface up."""
        made = [Namespace(self._prefix + name) for name in names]
        self._made += made
        batch(f"netns add {namespace.name}" for namespace in made)
        return made

    def remove(self) -> None:
        """End every process inside and remove the namespaces; repeating it is no error."""
        remove(self._made)
        self._made = []
        atexit.unregister(self.remove)


def remove(namespaces: list[Namespace]) -> None:
    """End the processes that run inside and remove the namespaces."""
    for namespace in namespaces:
        for pid in namespace.processes():
            os.kill(pid, signal.SIGKILL)
    if namespaces:
        batch(f"netns del {namespace.name}" for namespace in namespaces)


def sweep() -> None:
    """Remove the namespaces that a test run left behind which exists no more."""
    if not FOLDER.is_dir():
        return
    owners = {path.name: _OURS.match(path.name) for path in FOLDER.iterdir()}
    remove([Namespace(name) for name, owner in owners.items() if owner and not Path("/proc", owner[1]).exists()])
