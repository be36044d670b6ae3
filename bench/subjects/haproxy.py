"""HAProxy, one thread, mode tcp. It carries no UDP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.programs import environment, find
from bench.subjects.base import CONNECTIONS, TCP_PORTS, CannotRun, Running, launch, pairs, told_by
from bench.topology import BACKLOG, NODE, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE: Final = Path(__file__).with_name("haproxy.cfg")


class HAProxy:
    """Listens on the node's addresses, one listener with one server per port."""

    title = "HAProxy"
    role = "peer"
    udp = False

    def version(self) -> str:
        """Give its version; raises CannotRun."""
        return told_by(_program(), "-v").split()[2]

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node; raises CannotRun."""
        program = _program()
        config = folder / "haproxy.cfg"
        base = BASE.read_text().replace("CONNECTIONS", str(CONNECTIONS)).replace("BACKLOG", str(BACKLOG))
        config.write_text(base + "".join(_listeners()))
        return launch(topology, folder, [program, "-db", "-f", str(config)], NODE, environment(program))


def _listeners() -> Iterator[str]:
    for number, (address, server) in enumerate(pairs(TCP_PORTS)):
        yield f"listen tcp{number}\n    bind {address}\n    server one {server}\n"


def _program() -> str:
    program = find("haproxy")
    if program is None:
        raise CannotRun("haproxy is not installed")
    return program
