"""What a process and its children cost (CPU time, memory, context switches) and what the machine did, read from /proc.

Knows nothing of networks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PROC: Final = Path("/proc")
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
# Places after the parenthesis that closes the command's name: proc_pid_stat(5) counts from 1 and has state as 3.
_PARENT, _CPU_FIRST, _CPU_LAST = 1, 11, 14


class Memory(NamedTuple):
    """Bytes (proc_pid_smaps(5)): resident, and with pages that several processes share counted in part.

    anonymous: the resident pages that no file has, which the kernel cannot drop and read again.
    """

    resident: int
    proportional: int
    anonymous: int


class Cpus(NamedTuple):
    """Seconds since the machine started, all CPUs together: in use, and taken away by the hypervisor (proc_stat(5): steal)."""

    busy: float
    stolen: float


def family(pid: int) -> list[int]:
    """List a process and its descendants that are alive, itself first."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else None
        if fields:
            children.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, ())
    return found


def cpu_seconds(pid: int) -> float:
    """Give user and system time of a process, its descendants, and the children it has waited for; in seconds."""
    ticks = 0
    for member in family(pid):
        fields = _stat(member)
        if fields:
            ticks += sum(int(field) for field in fields[_CPU_FIRST : _CPU_LAST + 1])
    return ticks * _TICK


def waiting_seconds(pid: int) -> float:
    """Give how long the threads of a process could have run but had no CPU (/proc/PID/task/*/schedstat)."""
    with suppress(FileNotFoundError, ProcessLookupError):
        threads = [_read(pid, f"task/{thread.name}/schedstat").split() for thread in (PROC / str(pid) / "task").iterdir()]
        return sum(int(fields[1]) for fields in threads if fields) / 1e9
    return 0.0


def memory(pid: int) -> Memory:
    """Give the memory of a process and its descendants."""
    resident = proportional = anonymous = 0
    for member in family(pid):
        rollup = dict(line.split(":", 1) for line in _read(member, "smaps_rollup").splitlines()[1:])
        resident += _kibibytes(rollup.get("Rss", "0 kB"))
        proportional += _kibibytes(rollup.get("Pss", "0 kB"))
        anonymous += _kibibytes(rollup.get("Anonymous", "0 kB"))
    return Memory(resident, proportional, anonymous)


def context_switches(pid: int) -> dict[int, int]:
    """Count context switches, voluntary or not, of each thread of a process and of its descendants, by the thread's id."""
    found: dict[int, int] = {}
    for member in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in (PROC / str(member) / "task").iterdir():
                found[int(thread.name)] = _switches(_read(member, f"task/{thread.name}/status"))
    return found


def switched(before: Mapping[int, int], after: Mapping[int, int]) -> int:
    """Give how many context switches came between two counts; a thread that has ended meanwhile takes its own with it."""
    return sum(count - before.get(thread, 0) for thread, count in after.items())


def busy_seconds() -> float:
    """Give how long all CPUs together have been in use since the machine started."""
    return cpus().busy


def cpus() -> Cpus:
    """Read what all CPUs together have done."""
    return cpus_of((PROC / "stat").read_text())


def cpus_of(text: str) -> Cpus:
    """Take it from the text of /proc/stat, whose first line counts ticks."""
    user, nice, system, _idle, _iowait, irq, softirq, stolen, *_guests = map(int, text.split("\n", 1)[0].split()[1:])
    return Cpus((user + nice + system + irq + softirq) * _TICK, stolen * _TICK)


def _switches(status: str) -> int:
    return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches:" in line)


def _kibibytes(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024


def _stat(pid: int) -> list[str] | None:
    text = _read(pid, "stat")
    return text.rpartition(")")[2].split() if text else None


def _read(pid: int, name: str) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return (PROC / str(pid) / name).read_text()
    return ""
