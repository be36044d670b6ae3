"""What every subject offers, and the ports that each of them carries to the server."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Final, Protocol

from bench.load.generator import Address
from bench.load.server import ANSWER, DISCARD, ECHO, NAME, STREAM
from bench.programs import environment
from bench.topology import FAMILIES, NODE, PROXY_CPU, SERVER, Topology, bracketed, descriptors, end, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.subjects.feed import Feed

TCP_PORTS: Final = (ECHO, DISCARD, STREAM, NAME, ANSWER)
UDP_PORTS: Final = (ECHO, DISCARD)
PORTS: Final = {f"tcp-{port}": ("TCP", port) for port in TCP_PORTS} | {f"udp-{port}": ("UDP", port) for port in UDP_PORTS}
"""All of them as a Service has them: protocol and number by name."""
VIP: Final = {4: "10.96.0.10", 6: "fd10:96::10"}
"""The Service's address, by family, for subjects that listen on one."""
CONNECTIONS: Final = min(11_000, (descriptors() - 200) // 2)
"""How many a proxy is configured for: 10,000 idle ones and a load beside them, or what the descriptors allow, two each."""
UDP_RECEIVE_BUFFER: Final = 1 << 20
"""Bytes of a listener, for every proxy alike: what uproxy asks for by default."""
START_SECONDS: Final = 20.0
VERSION_SECONDS: Final = 20.0
LAST_LINES: Final = 2
"""Of what a program said: HAProxy and nginx name the cause in the last line but one."""


class CannotRun(Exception):
    """A subject that this machine cannot run, and why: its cells stay empty."""


@dataclass
class Running:
    """A subject at work. addresses: where the client reaches it, by family; process: whose CPU counts; None if there is no proxy.

    feed: how it is told of other Services; None if it has none.
    """

    addresses: Mapping[int, str]
    process: subprocess.Popen[str] | None = None
    log: Path | None = field(default=None, repr=False)
    feed: Feed | None = None

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


def pairs(ports: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Give where a proxy on the node listens, and the server's address behind it, as ADDRESS:PORT, for both families."""
    for family, port in product(FAMILIES, ports):
        yield f"{bracketed(NODE[family])}:{port}", f"{bracketed(SERVER[family])}:{port}"


def launch(
    topology: Topology, folder: Path, argv: Sequence[str], addresses: Mapping[int, str], variables: Mapping[str, str] | None = None
) -> Running:
    """Start a proxy on the node and wait until it serves; raises CannotRun with its last words."""
    log = folder / "stderr.log"
    with log.open("w") as stderr:
        process = start(topology.node, PROXY_CPU, argv, stdout=subprocess.DEVNULL, stderr=stderr, environment=variables)
    return serving(topology, Running(addresses, process, log))


def serving(topology: Topology, running: Running) -> Running:
    """Wait until the client reaches the server through it, in each family, and give it back; raises CannotRun, and has ended it then."""
    deadline = time.monotonic() + START_SECONDS
    try:
        for address in running.addresses.values():
            _wait(topology, running, (address, NAME), deadline)
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


def told_by(program: str, *arguments: str) -> str:
    """Run a program that tells its version and give what it prints, errors included; raises CannotRun."""
    try:
        done = subprocess.run(
            [program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=VERSION_SECONDS,
            check=True,
            env={**os.environ, **environment(program)},
        )
    except subprocess.CalledProcessError as error:
        raise CannotRun(f"{program} fails: {last_words(error.stdout)}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotRun(f"{program} cannot be run: {error}") from error
    return done.stdout


def last_words(text: str) -> str:
    """Give the last lines of what a program said, as one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-LAST_LINES:]) or "it says nothing"


def _wait(topology: Topology, running: Running, address: Address, deadline: float) -> None:
    while True:
        with suppress(OSError):  # not yet; why it may stay so, the program knows better
            if name_of_endpoint(topology, address):
                return
        _give_up_if_ended(running)
        if time.monotonic() > deadline:
            raise CannotRun(f"{address[0]} is not served after {START_SECONDS:g} s: {_said_by(running)}")
        time.sleep(0.02)


def _give_up_if_ended(running: Running) -> None:
    code = running.process.poll() if running.process else None
    if code is not None:
        raise CannotRun(f"it ended with {code}: {_said_by(running)}")


def _said_by(running: Running) -> str:
    return last_words(running.log.read_text(errors="replace")) if running.log else "nothing runs"
