"""Bundles: executables that run from one file, and notice when it is not for their interpreter."""

from __future__ import annotations

import importlib.util
import marshal
import subprocess
import sys
from pathlib import Path

import pytest

from cni_bridge import bundle
from cni_bridge.executable import VERBS
from tests.cni.host_local.configs import config, leases
from tests.cni.plugins import ROOT, call, variables
from tests.cni.test_interpreters import INTERPRETERS

WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from cni_bridge import bundle
bundle.write({!r}, Path(sys.argv[2]))
"""


def executable(folder: Path, name: str, python: str = sys.executable) -> Path:
    """Make a plugin that has its bundle and nothing else: the package is not on its path."""
    subprocess.run([python, "-I", "-c", WRITE.format(name), str(ROOT), str(folder)], check=True)
    path = folder / name
    path.write_text(f"#!{python} -IS\n{bundle.start(folder / f'{name}.bundle')}print('not for this interpreter')\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS)
def test_a_bundle_is_all_that_its_executable_needs_under_each_interpreter(tmp_path: Path, python: str) -> None:
    plugin = (str(executable(tmp_path, "host-local", python)),)
    said = config(tmp_path / "store", "10.1.0.0/29", "fd00::/64", stickyAddresses=True, resetAtBoot=True)
    result = call(plugin, variables("ADD"), said)
    assert [ip["address"] for ip in result.said["ips"]] == ["10.1.0.2/29", "fd00::2/64"]
    assert call(plugin, variables("CHECK"), {**said, "prevResult": result.said}).code == 0
    assert call(plugin, variables("STATUS"), {**said, "cniVersion": "1.1.0"}).said["pools"][0]["taken"] == 1
    assert call(plugin, variables("DEL"), said).code == 0
    assert leases(tmp_path / "store") == {}


@pytest.mark.parametrize("name", VERBS)
def test_every_executable_has_a_bundle(tmp_path: Path, name: str) -> None:
    plugin = (str(executable(tmp_path, name)),)
    assert call(plugin, variables("VERSION"), "").said["supportedVersions"][-1] == "1.1.0"
    assert call(plugin, {}, "").stderr.startswith(f"CNI plugin {name} ")
    assert call(plugin, variables("ADD"), "{").said["code"] == 6


def test_the_traceback_of_a_bug_names_files_and_lines(tmp_path: Path) -> None:
    plugin = executable(tmp_path, "host-local")
    strange = variables("ADD", container="c" * 300)
    broken = plugin.read_text().replace("#!", f"#!{sys.executable} -IS\nimport posix; del posix.rename\n#", 1)
    plugin.write_text(broken, encoding="utf-8")
    answer = call((str(plugin),), strange, config(tmp_path / "store", "10.1.0.0/29"))
    assert answer.said["code"] == 999
    assert f'File "{ROOT}/cni_bridge/host_local/store.py", line ' in answer.stderr


def test_byte_code_of_another_interpreter_is_left_alone(tmp_path: Path) -> None:
    plugin = executable(tmp_path, "loopback")
    made = tmp_path / "loopback.bundle"
    made.write_bytes(b"\0\0\r\n" + made.read_bytes()[4:])
    assert call((str(plugin),), variables("VERSION"), "").stdout == "not for this interpreter\n"


def test_a_bundle_that_is_gone_is_an_error_that_can_be_caught(tmp_path: Path) -> None:
    plugin = executable(tmp_path, "loopback")
    (tmp_path / "loopback.bundle").unlink()
    assert "FileNotFoundError" in call((str(plugin),), variables("VERSION"), "").stderr


def test_a_bundle_holds_what_its_executable_may_import_and_no_more() -> None:
    made = bundle.content("host-local")
    _code, _names, (_name, _verbs, index, _libraries) = marshal.loads(made[len(importlib.util.MAGIC_NUMBER) :])  # noqa: S302 - our own
    modules = marshal.loads(index)  # noqa: S302 - as above
    assert {"cni_bridge.host_local.reboot", "cni_bridge.protocol.reading"} < modules.keys()
    assert not [name for name in modules if name.startswith("cni_bridge.bridge")]
    assert b"collections.abc" not in made


def test_a_bundle_is_replaced_as_a_whole(tmp_path: Path) -> None:
    former = bundle.write("loopback", tmp_path)
    with former.open("rb") as reading:
        bundle.write("loopback", tmp_path)
        assert reading.read() == former.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["loopback.bundle"]


def test_a_closed_stdin_is_not_taken_for_the_bundle(tmp_path: Path) -> None:
    plugin = executable(tmp_path, "host-local")
    answer = call(("/bin/sh", "-c", f"exec {plugin} <&-"), variables("ADD"), "")
    assert (answer.said["code"], answer.stderr) == (5, "")


@pytest.mark.parametrize("name", VERBS)
def test_what_is_loaded_ahead_is_in_the_bundle(name: str) -> None:
    ahead = {f"{bundle.PACKAGE}.{module}" for modules in bundle.AHEAD.get(name, {}).values() for module in modules}
    assert all(module.encode() in bundle.content(name) for module in ahead)
