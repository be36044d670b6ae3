"""All samples of a comparison: medians, spreads, ratios; and the JSON file that keeps them raw."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from bench.workloads import Figure, Sample

FOLDER: Final = Path(__file__).with_name("results")


class Record(NamedTuple):
    """A sample and whose it is."""

    subject: str
    workload: str
    round: int
    sample: Sample


class Value(NamedTuple):
    """A figure over the rounds: half of the spread is half the distance between the least and the greatest."""

    median: float
    half_spread: float


@dataclass
class Results:
    """What one comparison found. versions and reasons (why a cell is empty) are by subject."""

    seconds: float
    rounds: int
    versions: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    def value(self, subject: str, workload: str, figure: Figure) -> Value | None:
        """Give a figure of a subject over all rounds; None if nothing was measured."""
        samples = [record.sample for record in self.records if (record.subject, record.workload) == (subject, workload)]
        found = [number for number in map(figure.of, samples) if number is not None]
        return Value(median(found), (max(found) - min(found)) / 2) if found else None

    def save(self) -> Path:
        """Write everything as JSON below bench/results and give the path."""
        found: dict[str, object] = {
            "seconds": self.seconds,
            "rounds": self.rounds,
            "versions": self.versions,
            "empty": self.reasons,
            "runs": [{**record._asdict(), "sample": record.sample._asdict()} for record in self.records],
        }
        return save("compare", found)


def save(name: str, found: dict[str, object]) -> Path:
    """Write what was found, and on which machine and when, as JSON below bench/results; give the path."""
    FOLDER.mkdir(exist_ok=True)
    now = datetime.now(tz=UTC)
    path = FOLDER / f"{name}-{now:%Y%m%d-%H%M%S}.json"
    document = {"made": now.isoformat(timespec="seconds"), "machine": machine(), **found}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def machine() -> dict[str, str | int]:
    """Name what the figures depend on."""
    return {
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
