"""A plain proxy on asyncio's streams: what one would write first, and what uproxy must be worth more than."""

from __future__ import annotations

import platform
import sys
from itertools import chain
from pathlib import Path
from typing import Final

from bench.subjects.base import TCP_PORTS, Running, launch, pairs
from bench.topology import NODE, Topology

PROGRAM: Final = Path(__file__).with_name("streams_proxy.py")


class Streams:
    """One program, on asyncio's own loop, with the interpreter that runs everything of ours here. It carries no UDP."""

    title = "asyncio streams"
    role = "peer"
    udp = False

    def version(self) -> str:
        """Give the interpreter's version."""
        return f"Python {platform.python_version()}"

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node; raises CannotRun."""
        # -I: neither our folders nor the user's are its own to import from.
        return launch(topology, folder, [sys.executable, "-I", str(PROGRAM), *chain.from_iterable(pairs(TCP_PORTS))], NODE)
