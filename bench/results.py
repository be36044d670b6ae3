"""Where what was found is kept, and on which machine it was found."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from bench.programs import find

FOLDER: Final = Path(__file__).with_name("results")


def save(name: str, found: dict[str, object]) -> Path:
    """Write what was found, and on which machine and when, as JSON below bench/results; give the path."""
    now = datetime.now(tz=UTC)
    path = new_path(name, now)
    document = {"made": now.isoformat(timespec="seconds"), "machine": machine(), **found}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def new_path(name: str, now: datetime, folder: Path = FOLDER) -> Path:
    """Give the path of a new file of that kind in a folder, which is made; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{now:%Y%m%d-%H%M%S}.json"


def machine() -> dict[str, str | int]:
    """Name what the figures depend on."""
    return {
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB",
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "python_build": build(sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "uvloop": _installed("uvloop"),
        "nft": _first_line(["nft", "--version"]),
    }


def build(arguments: str) -> str:
    """Tell how an interpreter was optimized, from what its ./configure was told (sysconfig's CONFIG_ARGS).

    Without a profile it takes 1.6 times as long for what a relayed event costs. Distributions ask for one later, when they
    call make, which leaves no trace: they are known by their prefix.
    """
    if "--enable-optimizations" in arguments:
        return "profile guided optimization" + (", link time optimization" if "--with-lto" in arguments else "")
    if "--prefix=/usr'" in arguments:
        return "the distribution's (Debian's and Fedora's have profile guided optimization)"
    return "no profile guided optimization"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _first_line(argv: list[str]) -> str:
    program = find(argv[0])
    if program is None:
        return "not installed"
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
