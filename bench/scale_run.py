"""One uproxy with many Services: started, watched, changed, measured. Seconds and bytes as they are; scale.py prints them."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import nft_times
from bench.processes import Memory, cpu_seconds, memory
from bench.scale_manifests import ENDPOINT_NETWORK, PORT, Manifests, new_endpoint, vip
from bench.subjects.base import name_of_endpoint
from bench.subjects.uproxy import METRICS, command, settings
from bench.topology import SERVER, Topology, end, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from bench.namespaces import Namespace

START_SECONDS: Final = 300.0
CHANGE_SECONDS: Final = 30.0
PROBE_SECONDS: Final = 0.05
"""How long a probe waits: what is served answers in less than a millisecond."""
POLL_SECONDS: Final = 0.002
QUIET_SECONDS: Final = 1.0
"""How long a change is left alone before the next one, so that no two share a round."""


class TookTooLong(Exception):
    """Something was not served in time: what, and uproxy's last words."""


class Costs(NamedTuple):
    """What uproxy has used so far. pause: the longest one of its event loop, as it says itself."""

    cpu: float
    memory: Memory
    pause: float


class Fleet:
    """A uproxy and its folder of manifests, in a network of their own. Use it as a context manager."""

    def __init__(self, topology: Topology, work: Path, form: str, count: int) -> None:
        self._topology = topology
        self._count = count
        self._log = work / "uproxy.log"
        self._config = settings(work)
        self._process: subprocess.Popen[str] | None = None
        self.manifests = Manifests(work, form)
        self.bytes = self.manifests.fill(count)
        topology.server.ip(f"route add local {ENDPOINT_NETWORK} dev lo")
        topology.node.ip(f"route add {ENDPOINT_NETWORK} via {SERVER[4]}")
        # What is not served yet is to be refused each time it is asked for, not once a second.
        topology.node.sysctl(ipv4__icmp_ratelimit=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process:
            end(self._process)

    def start(self) -> float:
        """Start uproxy and give the seconds until the first, the middle and the last Service are served."""
        began = time.perf_counter()
        with self._log.open("w") as log:
            argv = command(self.manifests.folder, self._config)
            self._process = start(self._topology.node, None, argv, stdout=subprocess.DEVNULL, stderr=log)
        for number in (self._count - 1, 0, self._count // 2):
            self._until(partial(self.answer, number), START_SECONDS, f"Service {number}")
        return time.perf_counter() - began

    def not_served(self) -> int:
        """Ask every Service once and count those that do not answer."""
        return sum(not self.answer(number, seconds=1.0) for number in range(self._count))

    def costs(self) -> Costs:
        """Give what was used so far."""
        if self._process is None:
            raise TookTooLong("uproxy was not started")
        pid = self._process.pid
        pause = metric(self._topology.node, "uproxy_loop_pause_seconds_max")
        return Costs(cpu_seconds(pid), memory(pid), pause)

    def add_endpoint(self, number: int) -> float:
        """Add an endpoint and give the seconds until it has answered."""
        since = self.manifests.add_endpoint(number, self._count)
        return self._after(since, lambda: self.answer(number) == new_endpoint(number), f"the endpoint added to Service {number}")

    def add_service(self, number: int) -> float:
        """Add a Service and give the seconds until it has answered."""
        since = self.manifests.add_service(number)
        return self._after(since, partial(self.answer, number), f"Service {number}, added,")

    def remove_service(self, number: int) -> float:
        """Remove it and give the seconds until it is refused."""
        since = self.manifests.remove_service(number)
        return self._after(since, lambda: not self.answer(number), f"the removal of Service {number}")

    def answer(self, number: int, seconds: float = PROBE_SECONDS) -> str:
        """Give the endpoint that answers for a Service now; empty if none does."""
        try:
            return name_of_endpoint(self._topology, (vip(number), PORT), seconds)
        except OSError:
            return ""

    def nft_times(self) -> nft_times.Times:
        """Give what nft takes for uproxy's table."""
        return nft_times.measure(self._topology.node, nft_times.UPROXY)

    def _after(self, since: float, reached: Callable[[], object], what: str) -> float:
        self._until(reached, CHANGE_SECONDS, what)
        took = time.perf_counter() - since
        time.sleep(QUIET_SECONDS)
        return took

    def _until(self, reached: Callable[[], object], seconds: float, what: str) -> None:
        deadline = time.perf_counter() + seconds
        while not reached():
            if time.perf_counter() > deadline or (self._process and self._process.poll() is not None):
                words = self._log.read_text().strip().splitlines()
                raise TookTooLong(f"{what} is not served after {seconds:g} s; uproxy says: {words[-1] if words else 'nothing'}")
            time.sleep(POLL_SECONDS)


def metric(node: Namespace, name: str) -> float:
    """Read a metric of the uproxy on a node; raises OSError when it is not there."""
    found = re.search(rf"^{name} (\S+)$", metrics(node), re.MULTILINE)
    if found is None:
        raise OSError(f"there is no metric {name}")
    return float(found[1])


def metrics(node: Namespace) -> str:
    """Read all metrics of the proxy on a node, uproxy or kube-proxy; raises OSError."""
    host, _, port = METRICS.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    with node.entered():
        connection.sock = socket.socket()
    connection.sock.connect((host, int(port)))
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()
