"""The unit: what systemd's own tools say of it, and uproxy at work with exactly the rights that it leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy import unit
from tests.lab.stand import Stand
from tests.lab.ways import assert_served
from uproxy.cli import run as run_command
from uproxy.config_file import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

SCORE: Final = 1.6
"""Of systemd 252; 9.6 is what a unit without any of it gets. The rest is what a proxy lives from: network, netlink, CAP_NET_ADMIN."""
UID: Final = "64321"
"""A user that nobody is, in Debian's range for local purposes."""
CAP_NET_BIND_SERVICE, CAP_NET_ADMIN = 10, 12

PROBE: Final = """
import ctypes, json, mmap, os, pathlib, socket, subprocess, sys
from uproxy.dataplane.descriptors import raise_limit

libc = ctypes.CDLL(None, use_errno=True)

def unshare(flags):
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")

def attempt(work):
    try:
        work()
    except OSError as error:
        return error.errno
    return 0

folder = pathlib.Path(sys.argv[1])
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "status": {key: value.split() for key, value in status.items()},
    "packet socket": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "writable code": attempt(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
    "chown": attempt(lambda: os.chown(folder, -1, -1)),
    "user namespace": attempt(lambda: unshare(0x10000000)),
    "file elsewhere": attempt(lambda: (folder.parent / "elsewhere").write_text("")),
    "sysctl": attempt(lambda: pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")),
    "home": [str(path) for path in pathlib.Path("/home").iterdir()],
    "child": subprocess.run(["true"], check=False).returncode,
    "limit": attempt(raise_limit),
}))
"""
SAVE: Final = """
import asyncio, sys
from msgspec.structs import replace
from tests.dataplane.running import RecordingLog
from tests.sources.states import many_services, state_of
from uproxy.api_stats import ApiStats
from uproxy.config import Config
from uproxy.sources.checkpoint import Checkpoint, load

async def save(config, state):
    checkpoint = Checkpoint(config, RecordingLog(), ApiStats())
    task = asyncio.create_task(checkpoint.run())
    await asyncio.sleep(0)
    checkpoint.note(state)
    task.cancel()
    await asyncio.wait([task])

config, state = Config(state_dir=sys.argv[1], node_name="n1"), many_services(100)
asyncio.run(save(config, state))
restored = load(config, RecordingLog())
sys.exit(restored is None or state_of(restored.objects) != state)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that everybody may read, with a `state` folder inside that belongs to the unit's user."""
    with tempfile.TemporaryDirectory(prefix="uproxy-unit-") as name:
        made = Path(name)
        made.chmod(0o755)
        state = made / "state"
        state.mkdir(mode=int(unit.setting("StateDirectoryMode")[0], 8))
        os.chown(state, int(UID), int(UID))
        yield made


def confined(folder: Path) -> tuple[str, ...]:
    """Give the command that starts what follows it with the unit's rights."""
    return (sys.executable, "-m", "tests.deploy.confinement", UID, str(folder / "state"))


def run_confined(folder: Path, program: str, *arguments: str) -> str:
    """Run a Python program with the unit's rights and give what it writes."""
    argv = ["unshare", "--mount", "--net", *confined(folder), sys.executable, "-c", program, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=unit.PROJECT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Systemd:
    """The end of the notify socket that systemd holds."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(10)
        Path(self.address).chmod(0o777)

    def hear_until(self, message: str) -> list[str]:
        """Give what comes until this message, which is the last of it."""
        heard = [self._socket.recv(4096).decode()]
        while heard[-1] != message:
            heard.append(self._socket.recv(4096).decode())
        return heard

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


# What systemd's tools say


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    place = unit.installed(tmp_path)
    done = unit.run("systemd-analyze", "verify", "--man=no", f"--root={tmp_path}", f"/{place.relative_to(tmp_path)}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_say_so_if_something_were_wrong(tmp_path: Path) -> None:
    place = unit.installed(tmp_path)
    place.write_text(place.read_text(encoding="utf-8").replace("WatchdogSec=", "WatchDogSecs="), encoding="utf-8")
    done = unit.run("systemd-analyze", "verify", "--man=no", f"--root={tmp_path}", f"/{place.relative_to(tmp_path)}")
    assert "WatchDogSecs" in done.stderr


def test_the_exposure_that_systemd_finds_is_what_the_docs_say() -> None:
    assert unit.exposure() <= SCORE
    assert f"an exposure of {SCORE}" in (Path(__file__).parents[2] / "docs" / "install.md").read_text(encoding="utf-8")


def test_the_user_of_the_unit_is_made_by_its_sysusers_file(tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/sysusers.d/uproxy.conf"
    place.parent.mkdir(parents=True)
    place.write_text((unit.FOLDER / "uproxy.sysusers").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "etc").mkdir()
    done = unit.run("systemd-sysusers", f"--root={tmp_path}")
    assert done.returncode == 0, done.stderr
    ((name, *_, home, shell),) = (line.split(":") for line in (tmp_path / "etc/passwd").read_text(encoding="utf-8").splitlines())
    assert [name] == unit.setting("User") == unit.setting("Group")
    assert home == f"/var/lib/{unit.setting('StateDirectory')[0]}"
    assert shell.endswith("nologin")


# What the operator edits


def assignments() -> list[tuple[str, str]]:
    """Give every NAME=VALUE of the example, commented out or not."""
    lines = (line.removeprefix("#") for line in (unit.FOLDER / "uproxy.env").read_text(encoding="utf-8").splitlines())
    return [(name, value) for name, equals, value in (line.partition("=") for line in lines) if equals and name.isupper()]


def started_with(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the unit's ExecStart as systemd would with this environment, from this project's own installation."""
    _, *words = unit.setting("ExecStart")
    expanded = [part for word in words for part in (environment.get(word[1:], "").split() if word.startswith("$") else [word])]
    program = str(Path(sys.executable).with_name("uproxy"))
    return subprocess.run([program, *expanded], capture_output=True, text=True, timeout=60, check=False)


def test_every_variable_of_the_example_is_one_that_is_read() -> None:
    read = {word[1:] for word in unit.setting("ExecStart") if word.startswith("$")}
    assert {name for name, _ in assignments()} == read | {"NODE_NAME"}
    assert "NODE_NAME" in ENVIRONMENT
    assert unit.setting("EnvironmentFile") == ["-/etc/uproxy/uproxy.env"], "may be missing"


def test_every_flag_of_the_example_exists() -> None:
    flags = {option for parameter in run_command.params for option in parameter.opts}
    named = {word.partition("=")[0] for _, value in assignments() for word in value.split()}
    assert {"--manifests", "--kubeconfig", "--config"} <= named <= flags


@pytest.mark.parametrize("flag", ["--manifests", "--kubeconfig"])
def test_one_variable_says_where_services_come_from(flag: str) -> None:
    ended = started_with(UPROXY_SOURCE=f"{flag}=/nonexistent/place")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f"{flag.removeprefix('--')} /nonexistent/place" in ended.stderr


def test_what_the_unit_says_by_itself_is_what_the_example_says() -> None:
    words = unit.setting("Environment")
    assert next(value for name, value in assignments() if name == "UPROXY_SOURCE") == words[0].partition("=")[2]


# With the unit's rights


@pytest.mark.netns
def test_the_rights_that_the_unit_leaves_are_what_it_says(folder: Path) -> None:
    found = json.loads(run_confined(folder, PROBE, str(folder / "state")))
    status = found.pop("status")
    rights = f"{1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_ADMIN:016x}"
    assert [status[f"Cap{name}"] for name in ("Prm", "Eff", "Bnd", "Amb")] == [[rights]] * 4
    assert (status["Uid"], status["Groups"], status["NoNewPrivs"], status["Seccomp"]) == ([UID] * 4, [], ["1"], ["2"])
    assert found == {
        "packet socket": 97,
        "writable code": 1,
        "chown": 1,
        "user namespace": 1,
        "file elsewhere": 30,
        "sysctl": 30,
        "home": [],
        "child": 0,
        "limit": 0,
    }


@pytest.mark.netns
def test_the_last_known_state_is_kept_with_the_units_rights(folder: Path) -> None:
    run_confined(folder, SAVE, str(folder / "state"))
    (saved,) = (folder / "state").iterdir()
    assert saved.stat().st_uid == int(UID)
    assert saved.stat().st_mode & 0o777 == 0o600


@pytest.mark.netns
@pytest.mark.parametrize("redirect", ["nftables", "routes"])
def test_with_the_units_rights_it_serves_and_tells_systemd_how_it_is(folder: Path, redirect: str) -> None:
    flags = ("--redirect", redirect, "--state-dir", str(folder / "state"))
    with closing(Systemd(folder)) as systemd, Stand(folder) as stand:
        environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "900000"}
        uproxy = stand.start(*flags, environment=environment, prefix=confined(folder))
        systemd.hear_until("READY=1")
        served = stand.serve("web", stand.lab.pod2)
        assert_served(stand, served, "pod2")
        status = Path(f"/proc/{uproxy.pid}/status").read_text(encoding="ascii")
        assert f"Uid:\t{UID}\t" in status
        assert f"CapEff:\t{1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_ADMIN:016x}\n" in status
        assert "Seccomp:\t2\n" in status
        assert set(systemd.hear_until("WATCHDOG=1")) == {"WATCHDOG=1"}
        uproxy.signal(signal.SIGTERM)
        assert "STOPPING=1" in systemd.hear_until("STOPPING=1")
        assert uproxy.wait(10) == 0
