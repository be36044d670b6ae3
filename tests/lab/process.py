"""The uproxy under test: a process in the node's namespace, its log lines, its health and its metrics."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.lab.client import open_socket
from tests.lab.servers import PROJECT
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.lab.topology import Host

HEALTH_PORT: Final = 10256
METRICS_PORT: Final = 10249
START_SECONDS: Final = 20.0
"""Importing everything takes 0.3 s; on a busy machine many times that."""


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: str


def argv_of(host: Host, *arguments: str, prefix: Sequence[str] = ()) -> list[str]:
    """Give the command that runs uproxy inside a host; prefix: programs that start it, such as taskset."""
    return ["ip", "netns", "exec", host.namespace.name, *prefix, sys.executable, "-m", "uproxy", *arguments]


def run_once(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run uproxy to its end: cleanup, version, a run that is refused."""
    return subprocess.run(argv_of(host, *arguments), capture_output=True, text=True, cwd=PROJECT, timeout=60, check=False)


class Uproxy:
    """A running `uproxy run`, fed by a folder of manifests if one is given. Whoever starts it ends it with stop() or kill()."""

    def __init__(
        self,
        host: Host,
        *flags: str,
        manifests: Path | None = None,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self._host = host
        folder = ("--manifests", str(manifests)) if manifests else ()
        arguments = ("run", *folder, "--node-name", host.name, *flags)
        self._process = subprocess.Popen(
            argv_of(host, *arguments, prefix=prefix),
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env={**os.environ, **(environment or {})},
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="uproxy's log", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()

    @property
    def pid(self) -> int:
        """The process id: `ip netns exec` becomes the program it starts."""
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self._process.poll() is None

    def wait_for_log(self, *words: str, within: float = 5.0, after: int = 0) -> str:
        """Wait for a log line that holds all words, counting from line number `after`; give the line."""
        deadline = time.monotonic() + within
        with self._news:
            while True:
                found = next((line for line in self.lines[after:] if all(word in line for word in words)), None)
                if found is not None:
                    return found
                assert self._news.wait(deadline - time.monotonic()), f"no line with {words} in:\n{self.log()}"

    def log(self) -> str:
        """Give everything logged so far."""
        return "\n".join(self.lines)

    def get(self, path: str, port: int = HEALTH_PORT) -> Reply:
        """Ask over HTTP from inside the node; raises OSError when nobody listens."""
        with open_socket(self._host, "127.0.0.1", socket.SOCK_STREAM) as raw:
            raw.connect(("127.0.0.1", port))
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.sock = raw
            connection.request("GET", path)
            with connection.getresponse() as response:
                return Reply(response.status, response.read().decode())

    def wait_healthy(self) -> None:
        """Wait until /healthz says 200; fails at once if the process has ended."""

        def healthy() -> bool:
            if not self.is_running():
                self._reader.join()
                raise RuntimeError(f"uproxy ended with {self._process.returncode}:\n{self.log()}")
            return self.get("/healthz").status == http.HTTPStatus.OK

        eventually(healthy, within=START_SECONDS)

    def metrics(self, **labels: str) -> dict[str, float]:
        """Scrape /metrics: the sum over all label values of each sample name; of those samples alone that have these labels."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics", METRICS_PORT).body):
            for sample in family.samples:
                if labels.items() <= sample.labels.items():
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, within: float = 10.0) -> int:
        """Wait for the end of the process and of its log; give its exit code."""
        code = self._process.wait(within)
        self._reader.join()
        if self._process.stderr is not None:
            self._process.stderr.close()
        return code

    def stop(self) -> int:
        """Ask it to end, ask again if connections are open, and give the exit code."""
        if self.is_running():
            self.signal(signal.SIGTERM)
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.is_running():
            self._process.kill()
        self.wait()
