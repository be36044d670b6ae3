"""No proxy: the node routes. What the network and the load itself can do here."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from bench.subjects.base import Running, serving
from bench.topology import SERVER, Topology

if TYPE_CHECKING:
    from pathlib import Path


class Routed:
    """The client talks to the server itself."""

    title = "no proxy"
    role = "kernel"
    udp = True

    def version(self) -> str:
        """Give the kernel's version."""
        return f"Linux {platform.release()}"

    def start(self, topology: Topology, folder: Path) -> Running:  # noqa: ARG002 - the Protocol's signature; nothing is to be started
        """Say where the server is, once it answers."""
        return serving(topology, Running(SERVER))
