"""One measurement: the load's process beside the proxy's, and the proxy's CPU time while the load counted."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench.figures import Sample
from bench.processes import busy_seconds, cpu_seconds
from bench.topology import LOAD_CPU, Topology, end, python, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from bench.subjects.base import Running
    from bench.workloads.base import Site

MARGIN_SECONDS: Final = 30.0
"""How much longer than its measurement a load may take before it is killed."""


class Failed(Exception):
    """A measurement that could not be made, and why: its cell stays empty."""


@contextmanager
def load_server(topology: Topology) -> Iterator[None]:
    """Run the load's server until left."""
    process = start(topology.server, LOAD_CPU, python("bench.load.server"))
    try:
        _pipe(process.stdout).readline()
        yield
    finally:
        end(process)


def generate(site: Site, kind: str, port: int, *flags: str) -> Sample:
    """Run one generator of bench.load on the client against a subject; raises Failed with the load's own words."""
    times = ["--seconds", str(site.seconds), "--warm-up", str(site.warm_up)]
    argv = python("bench.load", kind, site.address, str(port), *times, *flags)
    process = start(site.topology.client, LOAD_CPU, argv, stderr=subprocess.PIPE)
    try:
        return _watch(process, site.running, site.seconds + site.warm_up + MARGIN_SECONDS)
    finally:
        process.kill()
        process.communicate()


def _watch(process: subprocess.Popen[str], running: Running, limit: float) -> Sample:
    output, errors = _pipe(process.stdout), _pipe(process.stderr)
    watchdog = threading.Timer(limit, process.kill)
    watchdog.start()
    try:
        measuring = output.readline()
        before = _spent(running)
        line = output.readline()
        after = _spent(running)
    finally:
        watchdog.cancel()
    if not measuring or not line:
        words = errors.read().strip().splitlines()
        raise Failed(words[-1] if words else f"the load did not end within {limit:g} s")
    result = json.loads(line)
    proxy, own, all_cpus = (late - early for late, early in zip(after, before, strict=True))
    others = max(0.0, (all_cpus - own) / result["seconds"])
    return Sample(**result, cpu=proxy if running.process else None, others=others)


def _pipe(stream: IO[str] | None) -> IO[str]:
    """Give a pipe that Popen was told to make."""
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream


def _spent(running: Running) -> tuple[float, float, float]:
    """Give the CPU seconds of the proxy, of all that this program has started, and of the whole machine."""
    proxy = cpu_seconds(running.process.pid) if running.process else 0.0
    return proxy, cpu_seconds(os.getpid()), busy_seconds()
