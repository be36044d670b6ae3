"""Ports for tests: outside of what the kernel gives to sockets that do not ask, or who connects could find itself there."""

from __future__ import annotations

import random
import socket
from typing import Final

PORTS: Final = range(10300, 20000)
"""Above the health and metrics ports, below uproxy's local ports, node ports and the kernel's usual ip_local_port_range."""
TRIES: Final = 100


def free_port(address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Find a port that nobody uses; raises OSError when there is none among a hundred."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in random.sample(PORTS, TRIES):
        with socket.socket(family, kind) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port on {address}")
