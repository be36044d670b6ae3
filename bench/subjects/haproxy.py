"""HAProxy, one thread, mode tcp. It carries no UDP."""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.programs import environment, find
from bench.subjects.base import TCP_PORTS, CannotRun, Running, launch
from bench.topology import FAMILIES, NODE, SERVER, Topology, bracketed

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE: Final = Path(__file__).with_name("haproxy.cfg")


class HAProxy:
    """Listens on the node's address, one frontend and one server per port."""

    title = "HAProxy"
    role = "peer"
    udp = False

    def version(self) -> str:
        """Give its version; raises CannotRun."""
        program = _program()
        done = subprocess.run([program, "-v"], capture_output=True, text=True, check=True, env=environment(program) or None)
        return done.stdout.split()[2]

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node; raises CannotRun."""
        program = _program()
        config = folder / "haproxy.cfg"
        config.write_text(BASE.read_text() + "".join(_listeners()))
        return launch(topology, folder, [program, "-db", "-f", str(config)], NODE, environment(program))


def _listeners() -> Iterator[str]:
    for family, port in product(FAMILIES, TCP_PORTS):
        yield f"listen ipv{family}-{port}\n    bind {bracketed(NODE[family])}:{port}\n    server one {bracketed(SERVER[family])}:{port}\n"


def _program() -> str:
    program = find("haproxy")
    if program is None:
        raise CannotRun("haproxy is not installed")
    return program
