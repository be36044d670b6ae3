"""nginx with its stream module, one worker, TCP and UDP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.programs import environment, find, find_file
from bench.subjects.base import CONNECTIONS, TCP_PORTS, UDP_PORTS, UDP_RECEIVE_BUFFER, CannotRun, Running, launch, pairs, told_by
from bench.topology import BACKLOG, NODE, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE: Final = Path(__file__).with_name("nginx.conf")
STREAM_MODULE: Final = "/usr/lib/nginx/modules/ngx_stream_module.so"
FLOW_SILENCE: Final = "600ms"
"""Ends a UDP flow. nginx has no other bound for them: 15,000 flows of one datagram each a second would be 450,000 sockets after
30 s. Its timers are up to 300 ms coarse, so that a flow lives for 300 ms of silence at least: any load here asks more often."""


class Nginx:
    """Listens on the node's addresses, one server per port and protocol."""

    title = "nginx stream"
    role = "peer"
    udp = True

    def version(self) -> str:
        """Give its version; raises CannotRun."""
        program, _module = _program()
        return told_by(program, "-v").rpartition("/")[2].strip()

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node; raises CannotRun."""
        program, module = _program()
        (folder / "servers.conf").write_text("".join(_servers()))
        config = folder / "nginx.conf"
        text = BASE.read_text().replace("STREAM_MODULE", module).replace("FOLDER", str(folder))
        config.write_text(text.replace("SOCKETS", str(2 * CONNECTIONS)))
        argv = [program, "-p", str(folder), "-e", "stderr", "-c", str(config)]
        return launch(topology, folder, argv, NODE, environment(program))


def _servers() -> Iterator[str]:
    for address, server in pairs(TCP_PORTS):
        yield f"server {{ listen {address} backlog={BACKLOG}; proxy_pass {server}; }}\n"
    for address, server in pairs(UDP_PORTS):
        yield f"server {{ listen {address} udp rcvbuf={UDP_RECEIVE_BUFFER}; proxy_pass {server}; proxy_timeout {FLOW_SILENCE}; }}\n"


def _program() -> tuple[str, str]:
    program, module = find("nginx"), find_file(STREAM_MODULE)
    if program is None or module is None:
        raise CannotRun("nginx is not installed" if program is None else "nginx has no stream module")
    return program, module
