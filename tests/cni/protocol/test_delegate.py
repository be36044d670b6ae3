"""Executing another plugin: real programs, found in CNI_PATH."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cni_bridge.protocol import delegate, search
from cni_bridge.protocol.environment import Environment
from cni_bridge.protocol.errors import CniError
from cni_bridge.protocol.skeleton import Request
from tests.cni.plugins import reference


def executable(folder: Path, name: str, script: str) -> Path:
    """Write a shell script that can be executed."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def request(path: str, config: dict[str, Any] | None = None, padding: int = 0) -> Request:
    """Give a request as a bridge would get it."""
    said = {"cniVersion": "1.0.0", "name": "net", **(config or {})}
    stdin = json.dumps(said).encode() + b" " * padding
    given = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/gone", "CNI_IFNAME": "eth0", "CNI_PATH": path, "OTHER": "kept"}
    return Request(Environment({name.encode(): value.encode() for name, value in given.items()}), said, stdin)


def test_the_first_regular_file_in_the_path_is_taken(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "ipam").mkdir()
    executable(tmp_path / "b", "ipam", "exit 0")
    executable(tmp_path / "c", "ipam", "exit 1")
    assert search.find("ipam", f"/nowhere::{tmp_path}/a:{tmp_path}/b:{tmp_path}/c") == f"{tmp_path}/b/ipam"


@pytest.mark.parametrize(
    ("plugin", "path", "code", "message"),
    [
        ("ipam", "", 4, "required env variables [CNI_PATH] missing"),
        ("ipam", "/nowhere:/dev", 7, 'failed to find plugin "ipam" in path [/nowhere /dev]'),
        ("../ipam", "/bin", 7, 'invalid plugin name "../ipam"'),
        ("", "/bin", 7, 'invalid plugin name ""'),
    ],
)
def test_a_plugin_that_cannot_be_found_is_named(plugin: str, path: str, code: int, message: str) -> None:
    with pytest.raises(CniError) as refused:
        search.find(plugin, path)
    assert (refused.value.code, refused.value.msg) == (code, message)


def test_environment_and_stdin_arrive_as_they_are_but_for_the_command(tmp_path: Path) -> None:
    executable(tmp_path, "ipam", f"env > {tmp_path}/env; cat > {tmp_path}/stdin; echo said; exit 0")
    asked = request(f"{tmp_path}:/bin", padding=1_000_000)  # more than a pipe holds
    assert delegate.run("ipam", "CHECK", asked) == b"said\n"
    seen = (tmp_path / "env").read_text(encoding="utf-8").splitlines()
    assert {"CNI_COMMAND=CHECK", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "OTHER=kept"} <= set(seen)
    assert (tmp_path / "stdin").read_bytes() == asked.stdin


def test_a_plugin_of_the_reference_implementation_gives_its_result(tmp_path: Path) -> None:
    folder = str(Path(reference("static")[0]).parent)
    addresses = [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}]
    result = delegate.add("static", request(folder, {"ipam": {"type": "static", "addresses": addresses, "routes": [{"dst": "0.0.0.0/0"}]}}))
    assert result["ips"] == addresses
    assert result["routes"] == [{"dst": "0.0.0.0/0"}]
    with pytest.raises(CniError) as refused:
        delegate.add("host-local", request(folder, {"ipam": {"type": "host-local", "dataDir": str(tmp_path)}}))
    assert (refused.value.code, refused.value.msg) == (999, "no IP ranges specified")


@pytest.mark.parametrize(
    ("script", "code", "message", "details"),
    [
        ('echo \'{"code": 11, "msg": "later", "details": "busy"}\'; exit 1', 11, "later", "busy"),
        ("echo oops; exit 3", 100, 'plugin "ipam" failed without an error object: exit code 3', "oops"),
        ("kill -9 $$", 100, 'plugin "ipam" failed without an error object: signal 9', "stdout is empty; stderr may say more"),
        ("exit 0", 100, 'the result of plugin "ipam" is not JSON: it is empty', ""),
        ("echo []; exit 0", 100, 'the result of plugin "ipam" is not an object', "[]"),
        ('echo \'{"cniVersion": "7"}\'', 1, 'a result of cniVersion "7" cannot be read', ""),
    ],
)
def test_a_failure_is_relayed_or_described(tmp_path: Path, script: str, code: int, message: str, details: str) -> None:
    executable(tmp_path, "ipam", script)
    with pytest.raises(CniError) as refused:
        delegate.add("ipam", request(str(tmp_path)))
    assert (refused.value.code, refused.value.msg, refused.value.details) == (code, message, details)


def test_a_file_that_cannot_be_executed_is_an_error_with_its_name(tmp_path: Path) -> None:
    executable(tmp_path, "ipam", "exit 0").chmod(0o644)
    with pytest.raises(CniError, match="cannot execute plugin") as refused:
        delegate.run("ipam", "DEL", request(str(tmp_path)))
    assert refused.value.code == 5


def test_a_file_that_is_being_written_asks_for_a_second_try(tmp_path: Path) -> None:
    path = executable(tmp_path, "ipam", "exit 0")
    with path.open("ab"), pytest.raises(CniError) as refused:
        delegate.run("ipam", "DEL", request(str(tmp_path)))
    assert refused.value.code == 11


def test_a_daemon_that_a_plugin_leaves_behind_keeps_nobody_waiting(tmp_path: Path) -> None:
    executable(tmp_path, "ipam", f"sleep 30 & echo $! > {tmp_path}/daemon; echo '{{}}'")
    began = time.monotonic()
    assert delegate.add("ipam", request(str(tmp_path))) == {"interfaces": [], "ips": [], "routes": []}
    assert time.monotonic() - began < 10
    os.kill(int((tmp_path / "daemon").read_text(encoding="ascii")), 9)


def test_signals_that_the_interpreter_ignores_kill_the_plugin_as_usual(tmp_path: Path) -> None:
    executable(tmp_path, "ipam", "kill -PIPE $$; exit 0")
    with pytest.raises(CniError, match="signal 13"):
        delegate.run("ipam", "DEL", request(str(tmp_path)))
