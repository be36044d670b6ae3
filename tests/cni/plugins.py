"""Calling plugins as a runtime does: one process per request, environment and stdin in, exit code and stdout out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
GO_MODULE: Final = Path(__file__).resolve().parent / "go" / "go.mod"
Config = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a plugin process left."""

    code: int
    stdout: str
    stderr: str

    @cached_property
    def said(self) -> Config:
        """The object on stdout; empty without one."""
        said = json.loads(self.stdout) if self.stdout else {}
        assert isinstance(said, dict)
        return said


def ours(name: str, python: str = sys.executable) -> tuple[str, ...]:
    """Give the command that is our plugin of that name."""
    return (python, "-IS", str(ROOT / "cni_bridge/executable.py"), name)


def reference(name: str) -> tuple[str, ...]:
    """Give the command that is Debian's plugin of that name; skip the test when it is not there."""
    for folder in (ROOT / ".cache/debian/usr/lib/cni", Path("/usr/lib/cni")):
        if (folder / name).is_file():
            return (str(folder / name),)
    pytest.skip("needs Debian's containernetworking-plugins: scripts/debian-tools.sh as root")


def built(name: str) -> tuple[str, ...]:
    """Give the command that is the newest reference plugin of that name, or cnitool; skip the test when it is not there."""
    path = ROOT / ".cache/cni" / newest_version() / name
    if path.is_file():
        return (str(path),)
    pytest.skip(f"needs Go to build {name} {newest_version()}: scripts/cni-binaries.sh")


def newest_version() -> str:
    """Give the version of the reference plugins that go.mod requires, as v1.9.1."""
    found = re.search(r"^\tgithub\.com/containernetworking/plugins (v\S+)$", GO_MODULE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{GO_MODULE} requires no plugins"
    return found[1]


def variables(command: str, container: str = "c1", ifname: str = "eth0", args: str = "") -> dict[str, str]:
    """Give the environment of a request whose network namespace is gone, which IPAM plugins do not look at."""
    names = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": ifname, "CNI_ARGS": args}
    return {**names, "CNI_NETNS": "/var/run/netns/gone", "CNI_PATH": "/nowhere"}


def call(plugin: Sequence[str], environment: Mapping[str, str], config: Config | str | bytes) -> Answer:
    """Run one request to its end."""
    stdin = json.dumps(config) if isinstance(config, dict) else config
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([*plugin], input=data, env={**environment}, capture_output=True, check=False, timeout=60)
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
