"""What every subject offers, and the ports that each of them carries to the server."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from bench.load.generator import Address
from bench.load.server import DISCARD, ECHO, NAME, STREAM
from bench.topology import PROXY_CPU, Topology, end, start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TCP_PORTS: Final = (ECHO, DISCARD, STREAM, NAME)
UDP_PORTS: Final = (ECHO,)
START_SECONDS: Final = 20.0


class CannotRun(Exception):
    """A subject that this machine cannot run, and why: its cells stay empty."""


@dataclass
class Running:
    """A subject at work. addresses: where the client reaches it, by family; process: whose CPU counts; None if there is no proxy."""

    addresses: Mapping[int, str]
    process: subprocess.Popen[str] | None = None
    log: Path | None = field(default=None, repr=False)

    def stop(self) -> None:
        """End the process."""
        if self.process:
            end(self.process)


class Subject(Protocol):
    """A proxy, or none, between client and server. role: as document.SubjectInfo says."""

    title: str
    role: str
    udp: bool

    def version(self) -> str:
        """Give its version; raises CannotRun where it is missing."""

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node, folder is for its files; raises CannotRun. It serves when this returns."""


def launch(
    topology: Topology, folder: Path, argv: Sequence[str], addresses: Mapping[int, str], environment: Mapping[str, str] | None = None
) -> Running:
    """Start a proxy on the node and wait until the client reaches the server through it; raises CannotRun with its last words."""
    log = folder / "stderr.log"
    with log.open("w") as stderr:
        process = start(topology.node, PROXY_CPU, argv, stdout=subprocess.DEVNULL, stderr=stderr, environment=environment)
    running = Running(addresses, process, log)
    try:
        _wait(topology, running)
    except BaseException:
        running.stop()
        raise
    return running


def name_of_endpoint(topology: Topology, address: Address, seconds: float = 1.0) -> str:
    """Ask the name server behind an address which of its addresses answered; raises OSError."""
    with topology.client.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    with sock:
        sock.settimeout(seconds)
        sock.connect(address)
        return sock.recv(200).decode().partition(" ")[0]


def _wait(topology: Topology, running: Running) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if all(name_of_endpoint(topology, (address, NAME)) for address in running.addresses.values()):
                return
        except OSError:
            _give_up_if(running.process, running.log, late=time.monotonic() > deadline)
        time.sleep(0.02)


def _give_up_if(process: subprocess.Popen[str] | None, log: Path | None, *, late: bool) -> None:
    if late or process is None or process.poll() is not None:
        words = log.read_text().strip().splitlines() if log else []
        raise CannotRun(f"it does not serve: {words[-1] if words else 'it says nothing'}")
