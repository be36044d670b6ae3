"""A Go proxy on io.Copy: kube-proxy's userspace mode without its control plane. Its source is in go/, built when it is first needed.

Go takes a pipe for each direction before there is anything to splice: an idle connection holds six descriptors, and
20,000 of them are enough for 3,300 connections.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import programs
from bench.subjects.base import TCP_PORTS, UDP_PORTS, CannotRun, Running, last_words, launch, pairs, told_by
from bench.topology import NODE, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = Path(__file__).with_name("go")
BUILD_SECONDS: Final = 300.0


class GoCopy:
    """One program, on one CPU as Go sees it; TCP and UDP."""

    title = "Go io.Copy"
    role = "peer"
    udp = True

    def version(self) -> str:
        """Give Go's version; raises CannotRun."""
        return told_by(_go(), "env", "GOVERSION").strip()

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node, and build it before if need be; raises CannotRun."""
        return launch(topology, folder, [str(build(SOURCE, programs.BUILT)), *_arguments()], NODE, {"GOMAXPROCS": "1"})


def build(source: Path, folder: Path) -> Path:
    """Build a module that needs the standard library alone, once for each source and Go; raises CannotRun with Go's words."""
    go = _go()
    digest = hashlib.sha256(told_by(go, "env", "GOVERSION", "GOARCH").encode())
    for path in sorted(source.iterdir()):
        digest.update(path.read_bytes())
    program = folder / f"go-copy-{digest.hexdigest()[:16]}"
    if not program.exists():
        _build(go, source, program)
    return program


def _build(go: str, source: Path, program: Path) -> None:
    command = [go, "build", "-C", str(source), "-trimpath", "-buildvcs=false", "-o"]
    try:
        programs.build(program, lambda draft: [*command, str(draft)], BUILD_SECONDS, {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
    except subprocess.CalledProcessError as error:
        raise CannotRun(f"go cannot build it: {last_words(error.stderr)}") from error
    except subprocess.TimeoutExpired as error:
        raise CannotRun(f"go has not built it after {BUILD_SECONDS:g} s") from error


def _arguments() -> Iterator[str]:
    for protocol, ports in (("tcp", TCP_PORTS), ("udp", UDP_PORTS)):
        yield from chain.from_iterable((protocol, *pair) for pair in pairs(ports))


def _go() -> str:
    program = shutil.which("go")
    if program is None:
        raise CannotRun("go is not installed")
    return program
