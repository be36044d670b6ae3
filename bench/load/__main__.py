"""`python -m bench.load KIND HOST PORT`: one generator, a warm-up, a measurement; JSON lines on stdout.

The line {"measuring": true} is written when the warm-up is over and the result when the measurement is: who
reads them knows what to compare with the time between.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.load.bulk import Down, Up
from bench.load.connections import Connections
from bench.load.datagrams import Datagrams
from bench.load.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.load.generator import Generator, Result

WITHOUT_SIZE: Final[dict[str, Callable[..., Generator]]] = {"up": Up, "down": Down}
WITH_SIZE: Final[dict[str, Callable[..., Generator]]] = {"requests": Requests, "connections": Connections, "datagrams": Datagrams}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Load against an address, closed loop.")
    parser.add_argument("kind", choices=[*WITHOUT_SIZE, *WITH_SIZE])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1, help="connections or flows at a time")
    parser.add_argument("--size", type=int, default=64, help="bytes of a request and of its answer")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=0.5)
    return parser.parse_args(argv)


def generator(options: argparse.Namespace) -> Generator:
    """Make what the command line names; raises OSError when the target cannot be reached."""
    address = options.host, options.port
    if options.kind in WITHOUT_SIZE:
        return WITHOUT_SIZE[options.kind](address, options.connections)
    return WITH_SIZE[options.kind](address, options.connections, options.size)


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
