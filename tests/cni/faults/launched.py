"""A node whose plugins are run by the launcher, so that any step of theirs can be made to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.cni.bridge.node import PLUGINS, ROOT, Answer, Json, Node, listed

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.lab.namespaces import Namespace, Namespaces

NO_FATE = ("", -1)
Fate = tuple[str, int]
"""One of steps.FATES and the number of the step that it strikes, from 0; the fate may be empty."""


class Traces(NamedTuple):
    """What attachments leave on the host."""

    links: tuple[str, ...]
    leases: frozenset[str]
    rules: str
    routes: str


class Launched(Node):
    """A node with our plugins. options: of a tmpfs, in which the store then lies, seen by the plugins alone."""

    def __init__(self, namespaces: Namespaces, plugins: Path, store: Path, options: str = "") -> None:
        super().__init__(namespaces, plugins, store)
        self.steps = 0
        self.counts_reads = False
        argv = [sys.executable, "-m", "tests.cni.faults.launcher"]
        if options:
            store.mkdir()
            argv = ["unshare", "--mount", "--propagation", "slave", *argv, str(store), options]
        self._process = self.host.call(
            subprocess.Popen, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}
        )
        self._answer()
        self.launcher = self._process.pid
        self.seen = Path(f"/proc/{self.launcher}/root{store}") if options else store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _answer(self) -> Json:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the launcher ended"
        return dict(json.loads(line))

    def run(self, command: str, config: Json, pod: Namespace | None = None, **variables: str) -> Answer:
        return self.strike(NO_FATE, command, config, pod, **variables)

    def strike(self, fate: Fate, command: str, config: Json, pod: Namespace | None = None, **variables: str) -> Answer:
        """Run a request that meets its fate at one of its steps; `steps` tells how many it took."""
        netns = {"CNI_NETNS": f"/run/netns/{pod.name}"} if pod else {}
        names = {"CNI_COMMAND": command, "CNI_CONTAINERID": "cid1", "CNI_IFNAME": "eth0", "CNI_PATH": str(self.plugins)}
        asked = {
            "plugin": config["type"] if config["type"] in PLUGINS else "bridge",
            "variables": {"PATH": os.environ["PATH"], **names, **netns, **variables},
            "stdin": json.dumps(config),
            "fate": fate[0],
            "number": fate[1],
            "counts_reads": self.counts_reads,
        }
        assert self._process.stdin
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()
        said = self._answer()
        self.steps = int(said["steps"])
        return Answer(int(said["code"]), str(said["stdout"]), str(said["stderr"]))

    def leases(self) -> set[str]:
        folder = self.seen / "net1"
        return {path.name for path in folder.iterdir() if path.name[0].isdigit() or ":" in path.name} if folder.is_dir() else set()

    def traces(self) -> Traces:
        """Read everything at once."""
        script = (
            "ip -o link show type veth; ip -o link show type bridge; echo =; nft list ruleset; echo =; ip route; ip -6 route show proto 109"
        )
        links, rules, routes = self.host.run("sh", "-c", script).split("=\n")
        names = tuple(sorted(line.split(": ")[1].partition("@")[0] for line in links.splitlines()))
        return Traces(names, frozenset(self.leases()), rules, routes)


def interfaces(pod: Namespace) -> list[str]:
    """List a pod's interfaces."""
    return [one["ifname"] for one in listed(pod, "link")]
