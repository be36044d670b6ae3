"""A data plane in a process of its own: for tests that limit its descriptors or measure its memory and CPU.

python -m tests.dataplane.standalone LOOP DESCRIPTORS BUDGET ENDPOINT_PORT
DESCRIPTORS: RLIMIT_NOFILE; BUDGET: how many of them it believes traffic may take. Prints its listener's port, and for
each line that it reads the counters as JSON; ends at the end of its input.
"""

from __future__ import annotations

import json
import resource
import sys

from tests.dataplane.running import RunningPlane
from uproxy.config import Config
from uproxy.core.model import Endpoint
from uproxy.dataplane.upstream import NodeAddressOnly


def main(loop_name: str, descriptors: int, budget: int, endpoint_port: int) -> None:
    """Serve one port until standard input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    running = RunningPlane(loop_name, Config(), NodeAddressOnly(), budget)
    print(running.serve(Endpoint("127.0.0.1", endpoint_port)).port, flush=True)  # noqa: T201 - its way to answer
    for _ in sys.stdin:
        numbers = vars(running.counters) | {"open": running.plane.open_connections, "log": running.log.facts}
        print(json.dumps(numbers), flush=True)  # noqa: T201 - its way to answer
    running.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
