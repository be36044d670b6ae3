"""What a plugin process loads, and that it does its work under every interpreter there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cni.host_local.configs import config, leases
from tests.cni.plugins import ROOT, Config, call, ours, variables

STARTED_WITH = "import sys; print(*sys.modules)"
LOADED = """
import sys
sys.path.insert(0, {root!r})
import posix
exit = posix._exit
def end(code):
    sys.stderr.write(" ".join(sys.modules))
    sys.stderr.flush()
    exit(code)
posix._exit = end
from cni_bridge import executable
executable.run("host-local")
"""
WITHOUT_C_MODULES = """
import sys, os, json, signal, socket, struct
sys.path.insert(0, {root!r})
for name in ("_json", "_signal", "_socket", "_struct"):
    sys.modules[name] = None
from cni_bridge import executable
executable.run("host-local")
"""
CHEAP = {"__future__", "_json", "_signal", "_socket", "_struct", "errno", "fcntl", "posix", "time"}


def interpreters() -> dict[str, str]:
    """Give the interpreters from 3.11 on that can be found, by version."""
    folders = [*os.environ.get("PATH", "").split(":"), *map(str, Path.home().glob(".*/versions/*/bin"))]
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for minor in range(11, 16):
        for folder in folders:
            path = shutil.which(f"python3.{minor}", path=folder)
            if path and subprocess.run([path, "-IS", "-c", ""], capture_output=True, check=False).returncode == 0:
                found.setdefault(f"3.{minor}", path)
    return found


INTERPRETERS = interpreters()


@pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS)
def test_a_plugin_does_its_work_under_each_interpreter(tmp_path: Path, python: str) -> None:
    plugin = ours("host-local", python)
    said = config(tmp_path, "10.1.0.0/29", "fd00::/64", stickyAddresses=True, resetAtBoot=True)
    result = call(plugin, variables("ADD"), said)
    assert [ip["address"] for ip in result.said["ips"]] == ["10.1.0.2/29", "fd00::2/64"]
    assert call(plugin, variables("CHECK"), {**said, "prevResult": result.said}).code == 0
    assert call(plugin, variables("ADD"), "{").said["code"] == 6
    assert call(plugin, variables("GC"), {**said, "cni.dev/valid-attachments": None}).code == 0
    assert leases(tmp_path) == {}


@pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS)
def test_without_the_interpreters_own_modules_it_does_the_same(tmp_path: Path, python: str) -> None:
    plugin = (python, "-IS", "-c", WITHOUT_C_MODULES.format(root=str(ROOT)))
    said = config(tmp_path, "10.1.0.0/29", "fd00::/64")
    result = call(plugin, variables("ADD"), said)
    assert [ip["address"] for ip in result.said["ips"]] == ["10.1.0.2/29", "fd00::2/64"]
    assert call(plugin, variables("CHECK"), {**said, "prevResult": result.said}).code == 0
    assert call(plugin, variables("ADD"), '{"a": [NaN]}').said["code"] == 6
    assert call(plugin, variables("DEL"), said).code == 0
    assert leases(tmp_path) == {}


@pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS)
@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS", "GC", "DEL", "VERSION"])
def test_no_verb_loads_more_than_c_modules_and_our_own(tmp_path: Path, python: str, command: str) -> None:
    said: Config = {**config(tmp_path, "10.1.0.0/29"), "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    assert call(ours("host-local", python), variables("ADD", ifname="eth0" if command == "CHECK" else "net1"), said).code == 0
    before = subprocess.run([python, "-IS", "-c", STARTED_WITH], capture_output=True, text=True, check=True).stdout.split()
    answer = call((python, "-IS", "-c", LOADED.format(root=str(ROOT))), variables(command), said)
    assert answer.code == 0, answer
    loaded = set(answer.stderr.split()) - set(before)
    assert {name for name in loaded if not name.startswith("cni_bridge")} <= CHEAP
    assert ("cni_bridge.host_local.verbs" in loaded) is (command != "VERSION")


def test_a_stub_elsewhere_that_calls_run_is_a_plugin(tmp_path: Path) -> None:
    stub = tmp_path / "host-local"
    source = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom cni_bridge.executable import run\nrun('host-local')\n"
    stub.write_text(f"#!{sys.executable} -IS\n{source}", encoding="utf-8")
    stub.chmod(0o755)
    assert call((str(stub),), variables("ADD"), config(tmp_path / "store", "10.1.0.0/29")).said["ips"][0]["address"] == "10.1.0.2/29"
