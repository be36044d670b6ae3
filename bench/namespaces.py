"""Network namespaces for measurements and demonstrations: made, entered, removed.

Owns their names: each carries the process id of who made it, so that what a killed run left behind is
removed by the next one. Knows nothing of what is measured inside. Needs root and iproute2.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

FOLDER: Final = Path("/run/netns")
CLONE_NEWNET: Final = 0x40000000
END_SECONDS: Final = 5.0
_LIBC = ctypes.CDLL(None, use_errno=True)
_OURS = re.compile(r"ubench(\d+)-")


class Namespace:
    """One network namespace, by its name under /run/netns."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def prefix(self) -> list[str]:
        """What to put before a command line so that it runs inside; it replaces itself, the process id stays."""
        return ["nsenter", f"--net={FOLDER / self.name}"]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make sockets inside: they stay there, the calling thread returns (setns(2)). Do not await meanwhile."""
        with Path("/proc/thread-self/ns/net").open() as home, (FOLDER / self.name).open() as inside:
            _set_namespace(inside.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def ip(self, *lines: str) -> None:
        """Run ip commands inside, one per line; raises RuntimeError naming what failed."""
        batch(lines, "-n", self.name)

    def sysctl(self, **settings: int | str) -> None:
        """Set sysctls below net: a dot is written as two underscores."""
        with self.entered():
            for name, value in settings.items():
                Path("/proc/sys/net", *name.split("__")).write_text(str(value))


class Namespaces:
    """Some namespaces, up when the constructor returns, removed with all that runs inside when left."""

    def __init__(self, *names: str) -> None:
        sweep()
        run = f"ubench{os.getpid()}-{secrets.token_hex(2)}"
        self._all = {name: Namespace(f"{run}-{name}") for name in names}
        try:
            batch(f"netns add {namespace.name}" for namespace in self._all.values())
            for namespace in self._all.values():
                namespace.ip("link set lo up")
        except BaseException:
            self.remove()
            raise

    def __getitem__(self, name: str) -> Namespace:
        return self._all[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    def cable(self, one: str, device: str, other: str, other_device: str) -> None:
        """Connect two of them by a veth pair whose ends are up."""
        ends = self._all[one].name, self._all[other].name
        batch([f"link add {device} netns {ends[0]} type veth peer name {other_device} netns {ends[1]}"])
        self._all[one].ip(f"link set {device} up")
        self._all[other].ip(f"link set {other_device} up")

    def remove(self) -> None:
        """End what runs inside and remove the namespaces; repeating it is no error."""
        names = [namespace.name for namespace in self._all.values() if (FOLDER / namespace.name).exists()]
        _remove(names)


def sweep() -> None:
    """Remove namespaces whose maker was killed before it could."""
    _remove([name for name, owner in _owners().items() if not Path("/proc", owner).exists()])


def remove_own() -> None:
    """End what runs in namespaces of this process and remove them: an interrupt may come before whoever makes one has noted it."""
    _remove([name for name, owner in _owners().items() if owner == str(os.getpid())])


def _owners() -> dict[str, str]:
    """Give the process id of its maker for each namespace of a measurement."""
    found = {path.name: _OURS.match(path.name) for path in FOLDER.glob("ubench*")}
    return {name: owner[1] for name, owner in found.items() if owner}


def batch(lines: Iterable[str], *options: str) -> None:
    """Run ip commands in one process; raises RuntimeError naming what failed."""
    script = "\n".join(lines)
    done = subprocess.run(["ip", *options, "-batch", "-"], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(options)}: {done.stderr.strip()}\n{script}")


def _remove(names: list[str]) -> None:
    _end_processes(names)
    batch(f"netns delete {name}" for name in names)


def _end_processes(names: list[str]) -> None:
    """Kill what runs inside and wait until it is gone: a namespace lives as long as its last process."""
    deadline = time.monotonic() + END_SECONDS
    while (left := [pid for name in names for pid in _processes(name)]) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _processes(name: str) -> list[int]:
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def _set_namespace(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
