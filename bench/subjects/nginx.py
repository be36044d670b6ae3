"""nginx with its stream module, one worker, TCP and UDP."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.programs import environment, find, find_file
from bench.subjects.base import TCP_PORTS, UDP_PORTS, CannotRun, Running, launch
from bench.topology import FAMILIES, NODE, SERVER, Topology, bracketed

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE: Final = Path(__file__).with_name("nginx.conf")
STREAM_MODULE: Final = "/usr/lib/nginx/modules/ngx_stream_module.so"


class Nginx:
    """Listens on the node's address, one server per port and protocol."""

    title = "nginx stream"
    role = "peer"
    udp = True

    def version(self) -> str:
        """Give its version; raises CannotRun."""
        program, _module = _program()
        done = subprocess.run([program, "-v"], capture_output=True, text=True, check=True, env=environment(program) or None)
        return done.stderr.rpartition("/")[2].strip()

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node; raises CannotRun."""
        program, module = _program()
        (folder / "servers.conf").write_text("".join(_servers()))
        config = folder / "nginx.conf"
        config.write_text(BASE.read_text().replace("STREAM_MODULE", module).replace("FOLDER", str(folder)))
        argv = [program, "-p", str(folder), "-e", "stderr", "-c", str(config)]
        return launch(topology, folder, argv, NODE, environment(program))


def _servers() -> Iterator[str]:
    for family in FAMILIES:
        node, server = bracketed(NODE[family]), bracketed(SERVER[family])
        for port in TCP_PORTS:
            yield f"server {{ listen {node}:{port} backlog=4096; proxy_pass {server}:{port}; }}\n"
        for port in UDP_PORTS:
            yield f"server {{ listen {node}:{port} udp; proxy_pass {server}:{port}; proxy_timeout 30s; }}\n"


def _program() -> tuple[str, str]:
    program, module = find("nginx"), find_file(STREAM_MODULE)
    if program is None or module is None:
        raise CannotRun("nginx is not installed" if program is None else "nginx has no stream module")
    return program, module
