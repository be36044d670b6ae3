"""One measurement: the load's process beside the proxy's, and what the proxy used while the load counted.

It ends when the load ends, when it takes too long, and when the proxy dies, whichever comes first.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bench.figures import Sample
from bench.processes import Cpus, context_switches, cpu_seconds, cpus, switched
from bench.topology import LOAD_CPU, Topology, end, python, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import IO

    from bench.subjects.base import Running
    from bench.workloads.base import Site

MARGIN_SECONDS: Final = 30.0
"""How much longer than its measurement a load may take before it is killed."""
LOOK_SECONDS: Final = 0.1
"""How often a measurement looks whether the proxy is alive."""


class Failed(Exception):
    """A measurement that could not be made, and why: its cell stays empty."""


class Died(Failed):
    """The proxy ended in the middle of a measurement: nothing else can be measured until it is started again."""


class Spent(NamedTuple):
    """What has been used so far: CPU seconds and context switches of the proxy; CPU seconds of all that we started; of the machine."""

    proxy: float
    switches: Mapping[int, int]
    own: float
    machine: Cpus


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
    """Run one generator of bench.load on the client against a subject; raises Failed with the load's own words, Died."""
    times = ["--seconds", str(site.seconds), "--warm-up", str(site.warm_up)]
    argv = python("bench.load", kind, site.address, str(port), *times, *flags)
    process = start(site.topology.client, LOAD_CPU, argv, stderr=subprocess.PIPE)
    try:
        return _watch(process, site, site.seconds + site.warm_up + MARGIN_SECONDS)
    finally:
        process.kill()
        process.communicate()


def others_of(before: Spent, after: Spent, seconds: float) -> float:
    """Give the CPUs that were not ours on average: strangers used them or the hypervisor took them away."""
    busy, stolen = (late - early for late, early in zip(after.machine, before.machine, strict=True))
    return max(0.0, busy - (after.own - before.own)) / seconds + stolen / seconds


def spent(process: subprocess.Popen[str] | None = None) -> Spent:
    """Read it now. process: the proxy's, if there is one."""
    proxy, switches = (cpu_seconds(process.pid), context_switches(process.pid)) if process else (0.0, {})
    return Spent(proxy, switches, cpu_seconds(os.getpid()), cpus())


def check_alive(running: Running) -> None:
    """Raise Died with the proxy's last words when it has ended."""
    code = running.process.poll() if running.process else None
    if code is not None:
        words = running.log.read_text(errors="replace").strip().splitlines() if running.log and running.log.exists() else []
        raise Died(f"the proxy ended (exit code {code}): {words[-1] if words else 'it says nothing'}")


class Watchdog:
    """Kills a load that takes longer than its limit, or whose proxy is dead, until left."""

    def __init__(self, load: subprocess.Popen[str], running: Running, limit: float) -> None:
        self._load, self._proxy, self._limit = load, running.process, limit
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        left = self._limit
        while left > 0 and (self._proxy is None or self._proxy.poll() is None):
            if self._over.wait(LOOK_SECONDS):
                return
            left -= LOOK_SECONDS
        self._load.kill()


def _watch(process: subprocess.Popen[str], site: Site, limit: float) -> Sample:
    output, errors = _pipe(process.stdout), _pipe(process.stderr)
    proxy = site.running.process
    with Watchdog(process, site.running, limit):
        measuring = output.readline()
        with site.counting():
            before = spent(proxy)
            line = output.readline()
            after = spent(proxy)
    check_alive(site.running)
    if not measuring or not line:
        words = errors.read().strip().splitlines()
        raise Failed(words[-1] if words else f"the load did not end within {limit:g} s")
    return _sample(json.loads(line), before, after, with_proxy=proxy is not None)


def _sample(result: dict[str, Any], before: Spent, after: Spent, *, with_proxy: bool) -> Sample:
    others = others_of(before, after, result["seconds"])
    if not with_proxy:
        return Sample(**result, others=others)
    return Sample(**result, cpu=after.proxy - before.proxy, switches=switched(before.switches, after.switches), others=others)


def _pipe(stream: IO[str] | None) -> IO[str]:
    """Give a pipe that Popen was told to make."""
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream
