"""One run as it is kept in a file: all that a report or a comparison needs, without the code that measured it.

Values only; reading and writing are msgspec's. A cell is a subject, a workload and a family; it is empty where no run is.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SCHEMA: Final = 1
OURS: Final = "uproxy"
CALM: Final = 0.15
"""CPUs that others may use during a measurement before they get in its way."""


class Value(NamedTuple):
    """A figure over the rounds: half of the spread is half the distance between the least and the greatest."""

    median: float
    half_spread: float


class FigureInfo(Struct, frozen=True):
    """A row: key is unique within its workload."""

    key: str
    title: str
    unit: str
    higher_is_better: bool


class WorkloadInfo(Struct, frozen=True):
    """A kind of load. group: the part of the report that it belongs to."""

    title: str
    group: str
    figures: list[FigureInfo]


class SubjectInfo(Struct):
    """What was measured. role: ours; variant (ours, set otherwise); peer (a proxy in user space); kernel (no proxy process at all).

    reason: why nothing could be measured, else empty.
    """

    title: str
    role: str
    version: str = ""
    reason: str = ""


class Run(Struct, frozen=True):
    """One measurement of one round: its figures by key.

    others: CPUs that strangers used or the hypervisor took away meanwhile. attempts: how often it was made; the calmest one counts.
    """

    subject: str
    workload: str
    family: int
    round: int
    values: dict[str, float]
    units: int
    seconds: float
    failed: int = 0
    error: str = ""
    others: float = 0.0
    attempts: int = 1

    @property
    def disturbed(self) -> bool:
        """Whether somebody else got in its way, however often it was made."""
        return self.others > CALM


class SystemCalls(Struct, frozen=True):
    """System calls of the proxy per unit, by name, the most frequent first, of a run of its own that has no other figures.

    unit: what they are counted per, as "request". tool: who counted.
    """

    subject: str
    workload: str
    family: int
    per_unit: dict[str, float]
    unit: str = ""
    tool: str = ""


class EmptyCell(Struct, frozen=True):
    """Why a cell of a subject that runs has no value: the load's own words, or what the subject cannot do."""

    subject: str
    workload: str
    family: int
    reason: str


class Conditions(Struct, frozen=True):
    """What the machine did from the first measurement to the last: CPUs that strangers used on average, that the hypervisor took."""

    seconds: float
    others: float
    stolen: float


class Document(Struct):
    """A whole run. sections: what the other measurements (scale, cluster, cni) kept, by name, as they keep it.

    remarks: what could not be measured here at all, and why: a line each. complete: whether all has been measured that was to be:
    false while it runs, and for good when it was interrupted.
    """

    made: str
    machine: dict[str, str | int]
    seconds: float
    rounds: int
    families: list[int]
    subjects: dict[str, SubjectInfo]
    workloads: dict[str, WorkloadInfo]
    runs: list[Run] = []
    system_calls: list[SystemCalls] = []
    empty: list[EmptyCell] = []
    sections: dict[str, dict[str, Any]] = {}
    conditions: Conditions | None = None
    remarks: list[str] = []
    complete: bool = True
    schema: int = SCHEMA

    def value(self, subject: str, workload: str, figure: str, family: int = 4) -> Value | None:
        """Give a figure of a subject over all rounds; None if nothing was measured."""
        cell = (subject, workload, family)
        runs = (run for run in self.runs if (run.subject, run.workload, run.family) == cell)
        return spread(run.values[figure] for run in runs if figure in run.values)

    def best_peer(self, workload: str, figure: FigureInfo, family: int = 4) -> tuple[str, Value] | None:
        """Give the proxy in user space, not of ours, that is best in a row; None if there is none."""
        peers = [name for name, subject in self.subjects.items() if subject.role == "peer"]
        found = [(peer, value) for peer in peers if (value := self.value(peer, workload, figure.key, family))]
        better = max if figure.higher_is_better else min
        return better(found, key=lambda pair: pair[1].median) if found else None


def spread(numbers: Iterable[float]) -> Value | None:
    """Give the median and half the spread of some numbers; None without any."""
    found = list(numbers)
    return Value(median(found), (max(found) - min(found)) / 2) if found else None


def read(path: Path) -> Document:
    """Read a file; raises OSError, or ValueError saying what is wrong with it."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Document)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: not a run of this suite: {error}") from error
    if found.schema != SCHEMA:
        raise ValueError(f"{path}: schema {found.schema}, this program reads {SCHEMA}")
    return found


def write(document: Document, path: Path) -> None:
    """Write a file, whole or not at all: who reads meanwhile sees the one before. Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
