"""A program for a test: more UDP clients than the process has descriptors for. Prints what became of them as JSON."""

from __future__ import annotations

import json
import resource
import sys
from contextlib import ExitStack

from tests.dataplane.datagrams import UdpServer, ask, balancer_of, client, serve
from tests.dataplane.running import RunningPlane, open_descriptors
from uproxy.config import Config
from uproxy.dataplane.upstream import NodeAddressOnly

CLIENTS = 200
ROOM = 20


def main() -> None:
    """Let each client ask once, in turn, with room for ROOM flows only."""
    plane = RunningPlane("uvloop", Config(), NodeAddressOnly(), budget=10_000)
    with UdpServer() as server, ExitStack() as stack:
        key = serve(plane, balancer_of(plane, server.endpoint))
        socks = [stack.enter_context(client(key)) for _ in range(CLIENTS)]
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + ROOM, hard))
        answers = sum(ask(sock, b"data") == b"data" for sock in socks)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        told = {
            "clients": CLIENTS,
            "room": ROOM,
            "answers": answers,
            "flows": len(plane.flows),
            "evictions": plane.counters.flow_evictions,
            "dropped": plane.counters.datagrams_dropped,
            "unexpected": [str(error) for error in plane.log.unexpected],
        }
    plane.stop()
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
