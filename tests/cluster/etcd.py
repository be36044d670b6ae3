"""etcd behind the API server: a member of its own, on a Unix socket in its folder, so that it needs no port.

Owns the data; compaction, snapshot and restore are those that an operator does, with etcd's own tools.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from tests.cluster.binaries import binary
from tests.cluster.program import Program
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS: Final = "unix://etcd:1"
"""etcd takes what follows unix:// for a host and a port; the socket is a file of that name in the working folder."""
_PEERS: Final = "unix://peer:1"
_MEMBER: Final = ("--name", "lab", "--initial-cluster", f"lab={_PEERS}", "--initial-advertise-peer-urls", _PEERS)
START_SECONDS: Final = 30.0
"""0.2 s when nothing else runs."""


class ToolFailed(RuntimeError):
    """One of etcd's tools failed: its command and what it said."""


class Etcd:
    """One member, its data below folder. program: another etcd than the one that was built (3.4 for example)."""

    def __init__(self, folder: Path, program: Path | None = None) -> None:
        self._folder = folder
        self._data = folder / "etcd-data"
        self._restorer = "etcdctl" if program else "etcdutl"
        self._tools = program.parent if program else None
        urls = ("--listen-client-urls", CLIENTS, "--advertise-client-urls", CLIENTS, "--listen-peer-urls", _PEERS)
        common = ("--data-dir", str(self._data), "--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn")
        self.program = Program([str(program or binary("etcd")), *_MEMBER, *urls, *common], folder)

    def start(self) -> None:
        """Start it and wait until it answers."""
        for socket in (CLIENTS, _PEERS):
            # 3.4 does not remove what a killed one left.
            (self._folder / socket.removeprefix("unix://")).unlink(missing_ok=True)
        self.program.start()
        eventually(self._answers, within=START_SECONDS)

    def _answers(self) -> bool:
        if not self.program.is_running():
            raise RuntimeError(f"etcd ended:\n{self.program.log()}")
        try:
            self.revision()
        except ToolFailed:
            return False
        return True

    def revision(self) -> int:
        """Ask for the current revision: the resourceVersion of the newest change."""
        status = json.loads(self._run("etcdctl", "endpoint", "status", "--write-out", "json"))
        return int(status[0]["Status"]["header"]["revision"])

    def compact(self) -> int:
        """Forget every revision but the current one, at once; give it."""
        revision = self.revision()
        try:
            self._run("etcdctl", "compaction", "--physical", str(revision))
        except ToolFailed as error:
            if "has been compacted" not in str(error):
                raise
        return revision

    def snapshot(self, name: str = "snapshot") -> Path:
        """Save everything as it is now into a file of that name."""
        path = self._folder / f"{name}.db"
        self._run("etcdctl", "snapshot", "save", str(path))
        return path

    def restore(self, snapshot: Path) -> None:
        """Start again with the data of a snapshot: revisions that came later never happened."""
        self.program.kill()
        shutil.rmtree(self._data)
        self._run(self._restorer, "snapshot", "restore", str(snapshot), "--data-dir", str(self._data), *_MEMBER)
        self.start()

    def remove(self) -> None:
        """End it and remove its data: 64 MB that nobody wants to keep."""
        self.program.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    def _run(self, tool: str, *arguments: str) -> str:
        path = self._tools / tool if self._tools else binary(tool)
        endpoint = ("--endpoints", CLIENTS, "--command-timeout", "2s") if tool == "etcdctl" else ()
        environment = {**os.environ, "ETCDCTL_API": "3"}
        argv = [str(path), *endpoint, *arguments]
        done = subprocess.run(argv, cwd=self._folder, env=environment, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise ToolFailed(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout
