"""Processes that die, wait and crowd: what is left, what is said, and no address twice."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cni.host_local.configs import NAME, config, files, leases
from tests.cni.plugins import ROOT, Config, call, ours, reference, variables

OURS = ours("host-local")
KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from cni_bridge.host_local import lock, store
from tests.cni.host_local.dying import DyingSystem
store.posix = lock.posix = DyingSystem({changes}, lambda: os.kill(os.getpid(), signal.SIGKILL))
from cni_bridge import executable
executable.run("host-local")
"""


def run_until_killed(command: str, said: Config, changes: int) -> int:
    """Run a verb that kills itself in place of the change after that many; give its exit code."""
    source = KILLED.format(root=str(ROOT), changes=changes)
    done = subprocess.run(
        [sys.executable, "-c", source], input=json.dumps(said).encode(), env=variables(command), capture_output=True, check=False
    )
    return done.returncode


@pytest.mark.parametrize("plugin", ["ours", "theirs"])
def test_killed_at_any_change_of_an_add_a_del_by_anyone_leaves_nothing(tmp_path: Path, plugin: str) -> None:
    cleaner = OURS if plugin == "ours" else reference("host-local")
    changes = 0
    while True:
        place = tmp_path / str(changes)
        said = config(place, "10.1.0.0/29", "fd00::/125", version="1.0.0", resetAtBoot=True)
        code = run_until_killed("ADD", said, changes)
        assert set(leases(place).values()) <= {"c1 eth0"}, "a lease that is there is whole"
        assert call(cleaner, variables("DEL"), said).code == 0
        assert leases(place) == {}
        assert call(cleaner, variables("ADD", "c2"), said).code == 0
        if code == 0:
            break
        assert code == -signal.SIGKILL
        changes += 1
    assert changes >= 10, "two folders, the lock, and a write and a rename for each of five files"


def test_killed_at_any_change_of_a_del_a_second_del_leaves_nothing(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/29", "fd00::/125")
    for changes, left in ((1, 2), (2, 2), (3, 1)):  # the folder is there; the lock's file, then one lease after the other
        assert call(OURS, variables("ADD"), said).code == 0
        assert run_until_killed("DEL", said, changes) == -signal.SIGKILL
        assert len(leases(tmp_path)) == left
        assert call(OURS, variables("DEL"), said).code == 0
        assert leases(tmp_path) == {}


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the store's lock in this process, as any plugin might."""
    (folder / NAME).mkdir(exist_ok=True)
    descriptor = os.open(folder / NAME / "lock", os.O_CREAT | os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("DEL", 11), ("STATUS", 50)])
def test_waiting_for_the_lock_ends_and_names_who_holds_it(tmp_path: Path, command: str, code: int) -> None:
    said = config(tmp_path, "10.1.0.0/29", lockTimeoutSeconds=1)
    with locked(tmp_path):
        answer = call(OURS, variables(command), said)
    comm = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    assert (answer.code, answer.said["code"]) == (1, code)
    assert answer.said["msg"] == f"{tmp_path}/{NAME}/lock is held for more than 1 s by process {os.getpid()} ({comm})"
    assert files(tmp_path) == {}


def wait_until_it_waits(process: int) -> None:
    """Watch the kernel's list of locks until the process is among those that wait."""
    while not re.search(rf"-> FLOCK\s+ADVISORY\s+WRITE {process} ", Path("/proc/locks").read_text(encoding="ascii")):
        os.sched_yield()


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_who_waits_sleeps_until_the_lock_is_let_go(tmp_path: Path, kind: str) -> None:
    """Between two looks at it the kernel did not switch to it once: it does not ask again and again."""
    said = config(tmp_path, "10.1.0.0/29", version="1.0.0")
    plugin = OURS if kind == "ours" else reference("host-local")
    with (
        locked(tmp_path) as descriptor,
        subprocess.Popen([*plugin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables("ADD")) as waiting,
    ):
        assert waiting.stdin
        waiting.stdin.write(json.dumps(said).encode())
        waiting.stdin.close()
        waiting.stdin = None
        wait_until_it_waits(waiting.pid)
        before = switches(waiting.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.5)
        after = switches(waiting.pid)
        os.close(os.dup(descriptor))
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        assert waiting.wait(20) == 0
    assert kind == "theirs" or before == after
    assert leases(tmp_path) == {"10.1.0.2": "c1 eth0"}


def switches(process: int) -> str:
    """Give how often the process went to sleep."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))


@pytest.mark.parametrize("crowd", ["ours", "ours and theirs"])
def test_fifty_at_once_never_get_an_address_twice(tmp_path: Path, crowd: str) -> None:
    said = config(tmp_path, "10.1.0.0/26", "fd00::/122", version="1.0.0")
    plugins = [OURS, OURS if crowd == "ours" else reference("host-local")]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: call(plugins[number % 2], variables("ADD", f"c{number}"), said), range(50)))
    assert [answer.code for answer in answers] == [0] * 50
    given = Counter(ip["address"].partition("/")[0] for answer in answers for ip in answer.said["ips"])
    assert (len(given), set(given.values())) == (100, {1})
    assert len(leases(tmp_path)) == 100
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: call(plugins[number % 2], variables("DEL", f"c{number}"), said), range(50)))
    assert [answer.code for answer in answers] == [0] * 50
    assert leases(tmp_path) == {}


REBOOTED = """
set -e
printf '%s\\n' "$BOOT" > "$FOLDER/boot"
mount --bind "$FOLDER/boot" /proc/sys/kernel/random/boot_id
exec "$@"
"""


@pytest.mark.netns
@pytest.mark.parametrize("resets", [True, False], ids=["asked for", "not asked for"])
def test_after_a_reboot_the_leases_of_the_boot_before_are_free_where_that_is_asked_for(tmp_path: Path, *, resets: bool) -> None:
    """A time namespace whose boot was just now and another boot's ID are what a plugin sees of a reboot."""
    said = config(tmp_path, "10.1.0.0/29", version="1.0.0", resetAtBoot=resets)
    for container in ("a", "b", "c"):
        assert call(OURS, variables("ADD", container), said).code == 0
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    time.sleep(1.05 - uptime % 1)  # a time namespace begins at a whole second: let that be after the leases
    uptime = int(uptime) + 1
    assert call(reference("host-local"), variables("ADD", "theirs"), said).code == 0
    reboot = ["unshare", "--mount", "--time", "--boottime", str(-uptime), "--fork", "sh", "-c", REBOOTED, "sh", *OURS]
    environment = {**variables("ADD", "d"), "PATH": os.environ["PATH"], "FOLDER": str(tmp_path), "BOOT": "another"}
    answer = call(reboot, environment, said)
    assert (answer.code, answer.said["ips"][0]["address"]) == (0, "10.1.0.6/29")
    since = {"10.1.0.5": "theirs eth0", "10.1.0.6": "d eth0"}
    before = {"10.1.0.2": "a eth0", "10.1.0.3": "b eth0", "10.1.0.4": "c eth0"}
    assert leases(tmp_path) == (since if resets else before | since)
    if resets:
        again = call(reboot, {**environment, "CNI_CONTAINERID": "e"}, said)
        assert again.said["ips"][0]["address"] == "10.1.0.2/29"
        assert leases(tmp_path) == since | {"10.1.0.2": "e eth0"}, "once per boot: what this boot handed out stays"
