"""What a process and its children cost: CPU time and memory, read from /proc. Knows nothing of networks."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

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


def busy_seconds() -> float:
    """Give how long all CPUs together have been in use since the machine started."""
    user, nice, system, _idle, _iowait, irq, softirq, *_guests = map(int, (PROC / "stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq) * _TICK


def _kibibytes(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024


def _stat(pid: int) -> list[str] | None:
    text = _read(pid, "stat")
    return text.rpartition(")")[2].split() if text else None


def _read(pid: int, name: str) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return (PROC / str(pid) / name).read_text()
    return ""
