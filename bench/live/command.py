"""`python -m bench load tcp|udp|http ADDRESS`: reads the command line, runs the load, prints the summary, gives the exit code."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench.live.drawing import marks
from bench.live.generate import Load
from bench.live.lane import Site
from bench.live.options import Options, UsageError, parse
from bench.live.resolve import Unresolved, resolve
from bench.live.schedule import Schedule
from bench.live.summary import as_json, as_text, summary
from bench.live.tally import Tally
from bench.live.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USAGE_ERROR: Final = 2
SIGNALLED: Final = 128
INTERRUPTED: Final = 130
LOOKUP_SECONDS: Final = 10.0
"""Twice what the resolver waits for one name server (resolv.conf(5))."""
OWN_DESCRIPTORS: Final = 64
"""What Python, asyncio and a terminal have open, amply."""


def main(argv: Sequence[str]) -> int:
    """Run the command line; the exit code is 0, 1 if anything failed, 2 for a wrong command line, 130 after Ctrl-C."""
    try:
        options = parse(argv)
        _descriptors(options)
        return run(options)
    except (UsageError, Unresolved) as problem:
        print(f"bench load: {problem}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("bench load: interrupted before anything was sent", file=sys.stderr)
        return INTERRUPTED


def run(options: Options) -> int:
    """Run one load; raises Unresolved when there is nowhere to send it."""
    tally, schedule = Tally(), Schedule(options.rate, options.duration)
    site = Site(options, resolve(options.target, LOOKUP_SECONDS), tally)
    load = Load(site, schedule)
    with _short_collections():
        asyncio.run(load.run(View(site, schedule)))
    found = summary(site, schedule, load.ended, interrupted=load.interrupted is not None)
    print(as_json(found) if options.json else as_text(found, marks(sys.stdout.encoding)))
    return SIGNALLED + load.interrupted if load.interrupted else int(found.troubled)


@contextmanager
def _short_collections() -> Iterator[None]:
    """Take what is there already from the garbage collector: a full collection would be a pause of 20 ms or more."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _descriptors(options: Options) -> None:
    """Take as many descriptors as this process may; raises UsageError if the connections need more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = options.connections + OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            possible = hard - OWN_DESCRIPTORS
            raise UsageError(f"--connections {options.connections}: this process may have {possible} (more with ulimit -n {needed})")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
