"""Running either load, the native one or Python's, as measurements do: by its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench.load import native
from bench.load.generator import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.peers import Address

NATIVE: Final = "native"
PYTHON: Final = "python"
BOTH: Final = (NATIVE, PYTHON)


def environment(implementation: str) -> dict[str, str]:
    """Give the variables with which a load starts as this implementation."""
    others = {name: value for name, value in os.environ.items() if name != "BENCH_LOAD"}
    if implementation == PYTHON:
        return {**others, "BENCH_LOAD": "python"}
    native.build(native.FOLDER)  # or else Python would take its place, and nobody would see it
    return others


def load(implementation: str, kind: str, address: Address, *flags: str, seconds: float = 0.15) -> subprocess.CompletedProcess[str]:
    """Run a generator, without a warm-up if no flag says otherwise."""
    command = [sys.executable, "-m", "bench.load", kind, address[0], str(address[1])]
    times = ["--seconds", str(seconds), "--warm-up", "0"]
    return subprocess.run(
        [*command, *times, *flags], capture_output=True, text=True, check=False, timeout=30, env=environment(implementation)
    )


def measured(done: subprocess.CompletedProcess[str]) -> Result:
    """Read what a generator found."""
    assert (done.returncode, done.stderr) == (0, "")
    measuring, result = map(json.loads, done.stdout.splitlines())
    assert measuring == {"measuring": True}
    assert set(result) == set(Result._fields)
    return Result(**result)


@contextmanager
def server(implementation: str, *host: str) -> Iterator[int]:
    """Run the load's server, give its process id."""
    command = [sys.executable, "-m", "bench.load.server", *host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(implementation)) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            process.kill()
