"""One request to a CNI plugin after another, as a runtime makes them, and what each one cost. Prints nothing.

Every subject has a network namespace of its own as its node, with its own bridges and leases; the pods' namespaces are
shared, as they are empty again after every DEL. Costs are those of the plugin's process and all that it started.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.namespaces import FOLDER, Namespace, Namespaces

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

SECONDS: Final = 30.0
"""After which a plugin is killed: the reference one may wait for 20 on its locks."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Failed(Exception):
    """A plugin refused or died: what was asked, and its own words."""


class Cost(NamedTuple):
    """Of one request, in seconds. cpu: user and system time of all processes; wall: until the last of them had ended."""

    cpu: float
    wall: float


class Subject(NamedTuple):
    """Plugins to be measured. version: what is known of their origin."""

    name: str
    title: str
    plugins: Path
    version: str


class Process:
    """One process that was started inside the namespace of the calling thread: its output, and what it cost."""

    def __init__(self, command: list[str], environment: dict[str, str], stdin: bytes) -> None:
        self._command = command
        self._stdout = os.memfd_create("stdout")
        given = os.memfd_create("stdin")
        try:
            os.write(given, stdin)
            os.lseek(given, 0, os.SEEK_SET)
            files = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, self._stdout, 1)]
            self._began = time.perf_counter()
            self._pid = os.posix_spawn(command[0], command, environment, file_actions=files)
        finally:
            os.close(given)

    def end(self) -> Cost:
        """Wait until it has ended. Raises Failed with what it wrote."""
        watchdog = Timer(SECONDS, os.kill, (self._pid, 9))
        watchdog.start()
        try:
            _, status, usage = os.wait4(self._pid, 0)
            cost = Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - self._began)
            if status:
                words = os.pread(self._stdout, 4096, 0).decode(errors="replace")
                raise Failed(f"{' '.join(self._command)} ended with {os.waitstatus_to_exitcode(status)}: {words}")
        finally:
            watchdog.cancel()
            watchdog.join()
            os.close(self._stdout)
        return cost


class Site:
    """A node for each subject, and pods. Use it as a context manager: namespaces are made at once, and removed at the end."""

    def __init__(self, subjects: Sequence[Subject], pods: int, stores: Path) -> None:
        self._stores = stores
        self._pods = [f"pod{number}" for number in range(pods)]
        with ExitStack() as undo:
            self._namespaces = undo.enter_context(Namespaces(*(subject.name for subject in subjects), *self._pods))
            for subject in subjects:
                (stores / subject.name).mkdir(parents=True)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._undo.close()

    def node(self, subject: Subject) -> Namespace:
        """Give the subject's own namespace."""
        return self._namespaces[subject.name]

    def config(self, subject: Subject, name: str, subnets: Sequence[str], keys: dict[str, Any]) -> dict[str, Any]:
        """Give the configuration of a network with a bridge of its own and an address from each subnet."""
        ranges = [[{"subnet": subnet}] for subnet in subnets]
        ipam = {"type": "host-local", "dataDir": str(self._stores / subject.name), "ranges": ranges}
        common = {"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": f"br-{name}", "isDefaultGateway": True}
        return {**common, "ipam": ipam, **keys}

    def request(self, subject: Subject, command: str, config: dict[str, Any], pods: int) -> Cost:
        """Make one request for each of so many pods at the same time; give the cost of one."""
        argv, stdin = [str(subject.plugins / "bridge")], json.dumps(config).encode()
        with self.node(subject).entered():
            began = time.perf_counter()
            running = [Process(argv, self._environment(subject, command, pod), stdin) for pod in self._pods[:pods]]
            costs = _ended(running)
            wall = time.perf_counter() - began
        return Cost(sum(cost.cpu for cost in costs) / pods, costs[0].wall if pods == 1 else wall / pods)

    def _environment(self, subject: Subject, command: str, pod: str) -> dict[str, str]:
        netns = str(FOLDER / self._namespaces[pod].name)
        names = {"CNI_CONTAINERID": f"bench-{pod}", "CNI_IFNAME": "eth0", "CNI_NETNS": netns}
        return {"PATH": PATH, "CNI_COMMAND": command, "CNI_PATH": str(subject.plugins), **names}


def _ended(running: Sequence[Process]) -> list[Cost]:
    """Wait for all of them, whatever becomes of some. Raises the first Failed."""
    costs, failures = [], []
    for process in running:
        try:
            costs.append(process.end())
        except Failed as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
    return costs
