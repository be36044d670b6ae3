"""Where what was found is kept, and on which machine it was found."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("results")


def save(name: str, found: dict[str, object]) -> Path:
    """Write what was found, and on which machine and when, as JSON below bench/results; give the path."""
    now = datetime.now(tz=UTC)
    path = new_path(name, now)
    document = {"made": now.isoformat(timespec="seconds"), "machine": machine(), **found}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def new_path(name: str, now: datetime) -> Path:
    """Give the path of a new file of that kind below bench/results."""
    FOLDER.mkdir(exist_ok=True)
    return FOLDER / f"{name}-{now:%Y%m%d-%H%M%S}.json"


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
