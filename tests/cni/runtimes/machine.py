"""A machine for runtimes: a network namespace as its network, with folders and processes of its own.

Owns what a runtime expects at fixed places: empty /run, /opt and /var/lib, an /etc with other CNI and container settings,
and a process namespace whose end is the end of all that was started inside. Everything else of the real machine is
there; its cgroups too, of which runtimes may use those below the machine's name. Must not know any runtime.

As a program (`python -m tests.cni.runtimes.machine`) it makes the folders and then is process 1, until its stdin ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

from tests.cni.plugins import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab.namespaces import Namespace

DEBIAN: Final = ROOT / ".cache/debian"
FOLDERS: Final = ("usr/bin", "usr/sbin", "bin")
HIDDEN: Final = Path("/run/hidden")
COVERED: Final = {"/etc": ("cni", "containerd", "containers"), "/opt": ("cni",), "/var/lib": ("cni", "containerd", "containers")}
"""Folders in memory that cover the machine's own, with links to all that was in there but for these names."""
CGROUPS: Final = Path("/sys/fs/cgroup")
SECONDS: Final = 60


def program(name: str) -> str:
    """Find a program that is unpacked or installed; skip the test when it is neither."""
    unpacked = next((str(path) for folder in FOLDERS if (path := DEBIAN / folder / name).is_file()), None)
    if found := unpacked or shutil.which(name):
        return found
    pytest.skip(f"needs {name}: scripts/debian-tools.sh as root")


class Failed(Exception):
    """A program ended with another exit code than 0; the message has its stderr."""


class Machine:
    """One machine. A context manager: in the end its processes are killed, its cgroups removed.

    host: its network. Programs run in it with .cache/debian first in PATH.
    """

    def __init__(self, host: Namespace) -> None:
        self.name: Final = host.name
        sweep()
        host.ip("link set lo up")
        self._started: list[subprocess.Popen[str]] = []
        program = (sys.executable, "-m", "tests.cni.runtimes.machine")
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", *program]
        self._holder = host.call(subprocess.Popen, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._holder.stdout
        if self._holder.stdout.readline() != b"ready\n":
            self.__exit__()
            raise Failed("the machine has not come up: see stderr")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe:
                pipe.close()
        self._holder.wait(SECONDS)
        for process in self._started:
            process.communicate(timeout=SECONDS)
        deadline = time.monotonic() + SECONDS
        while left := cgroups(self.name):
            assert time.monotonic() < deadline, f"cannot be removed: {left}"
            _remove(left)

    @property
    def root(self) -> Path:
        """Where its files are seen from here."""
        return Path(f"/proc/{self._holder.pid}/root")

    def start(self, *argv: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a program inside, which runs until the machine's end at most; it reads nothing, and what it writes goes to one pipe."""
        command, given = self._inside(argv), {**_environment(), **(environment or {})}
        pipe, same = subprocess.PIPE, subprocess.STDOUT
        self._started.append(subprocess.Popen(command, env=given, text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=same))
        return self._started[-1]

    def attempt(self, *argv: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end, whatever becomes of it."""
        given = {**_environment(), **(environment or {})}
        return subprocess.run(self._inside(argv), env=given, text=True, capture_output=True, check=False, timeout=SECONDS)

    def run(self, *argv: str | Path, environment: Mapping[str, str] | None = None) -> str:
        """Run a program inside to its end and give its stdout; raises Failed."""
        done = self.attempt(*argv, environment=environment)
        if done.returncode:
            raise Failed(f"{' '.join(map(str, argv))}: exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def _inside(self, argv: tuple[str | Path, ...]) -> list[str]:
        namespaces = f"/proc/{self._holder.pid}/ns"
        enter = ["nsenter", f"--mount={namespaces}/mnt", f"--net={namespaces}/net", f"--pid={namespaces}/pid_for_children", "--"]
        return [*enter, "env", f"--chdir={ROOT}", *map(str, argv)]


def _environment() -> dict[str, str]:
    programs = ":".join(str(DEBIAN / folder) for folder in FOLDERS)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": "/run/home"}


def cgroups(name: str) -> list[Path]:
    """List the cgroups of that name and those below, inner ones first: one tree per hierarchy where there are several."""
    tops = [path for pattern in (name, f"*/{name}") for path in CGROUPS.glob(pattern)]
    return [path for top in tops for path in sorted((top, *(each for each in top.rglob("*") if each.is_dir())), reverse=True)]


def sweep() -> None:
    """Remove the cgroups that a test run left behind which exists no more."""
    for top in {path.name for path in cgroups("uplab*") if path.name.startswith("uplab")}:
        if not Path("/proc", top.removeprefix("uplab").partition("-")[0]).exists():
            _remove(cgroups(top))


def _remove(folders: list[Path]) -> None:
    """Remove cgroups; one whose processes are just ending stays for the next attempt."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            time.sleep(0.02)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def _cover(folder: str, but: tuple[str, ...]) -> None:
    """Lay an empty folder over one, with links to what was in there."""
    below = HIDDEN / folder.lstrip("/")
    below.mkdir(parents=True)
    _mount("--bind", folder, below)
    _mount("-t", "tmpfs", "none", folder)
    for path in below.iterdir():
        if path.name not in but:
            Path(folder, path.name).symlink_to(path)


def main() -> None:
    """Make the machine's folders, say so, and wait for the end; the children that others leave behind end unseen."""
    _mount("-t", "proc", "none", "/proc")
    _mount("-t", "tmpfs", "none", "/run")
    Path("/run/home").mkdir()
    for folder, but in COVERED.items():
        _cover(folder, but)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
