"""`python -m bench.load KIND HOST PORT`: one generator, a warm-up, a measurement; JSON lines on stdout.

The line {"measuring": true} is written when the warm-up is over and the result when the measurement is: who
reads them knows what to compare with the time between.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.load import bulk, native
from bench.load.connections import Connections
from bench.load.datagrams import Datagrams
from bench.load.flood import Flood
from bench.load.idle import Idle
from bench.load.paced import Paced
from bench.load.queries import Queries
from bench.load.requests import Requests
from bench.load.storm import Storm

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.load.generator import Generator, Result

WITHOUT_SIZE: Final[dict[str, Callable[..., Generator]]] = {"up": bulk.up, "down": bulk.down, "both": bulk.both}
WITH_SIZE: Final[dict[str, Callable[..., Generator]]] = {
    "requests": Requests,
    "connections": Connections,
    "connections-until-end": partial(Connections, until_end=True),
    "storm": Storm,
    "idle": Idle,
    "datagrams": Datagrams,
    "queries": Queries,
}
WITH_RATE: Final = ("paced", "flood")
KINDS: Final = (*WITHOUT_SIZE, *WITH_SIZE, *WITH_RATE)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Load against an address, for a measurement.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("host", help="numeric, of either family")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1, help="connections or flows at a time")
    parser.add_argument("--size", type=int, default=64, help="bytes of a request and of its answer")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests or datagrams in a second, of paced and flood")
    parser.add_argument("--server", default="", help="where flood asks what arrived, if not at HOST")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=0.5)
    options = parser.parse_args(argv)
    if options.connections < 1 or options.size < 1 or options.rate <= 0:
        parser.error("--connections, --size and --rate: above 0")
    return options


def generator(options: argparse.Namespace) -> Generator:
    """Make what the command line names; raises OSError when the target cannot be reached."""
    address = options.host, options.port
    if options.kind in WITHOUT_SIZE:
        return WITHOUT_SIZE[options.kind](address, options.connections)
    if options.kind in WITH_SIZE:
        return WITH_SIZE[options.kind](address, options.connections, options.size)
    if options.kind == "paced":
        return Paced(address, options.connections, options.size, options.rate)
    return Flood(address, options.connections, options.size, rate=options.rate, server=options.server)


def measure(load: Generator, warm_up: float, seconds: float, measuring: Callable[[], None]) -> Result:
    """Run a generator for both times; call measuring between them."""
    load.run(perf_counter() + warm_up)
    load.reset()
    measuring()
    start = perf_counter()
    load.run(start + seconds)
    return load.result(perf_counter() - start)


def main(argv: list[str] | None = None) -> int:
    """Measure once; exit code 1 and one line when the target cannot be reached."""
    options = parse(argv)
    native.become_load(options)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()
    try:
        load = generator(options)
        result = measure(load, options.warm_up, options.seconds, lambda: print(json.dumps({"measuring": True}), flush=True))
    except OSError as error:
        print(f"{options.kind} {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result._asdict()), flush=True)
    load.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
