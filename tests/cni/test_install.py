"""Installing the plugins, into temporary folders: what is there afterwards, in between, and when something has changed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from cni_bridge import install as installing
from cni_bridge import interpreter, stub
from cni_bridge.install import Place
from tests.cni.host_local.configs import config
from tests.cni.plugins import ROOT, Answer, call, variables
from tests.cni.test_interpreters import INTERPRETERS
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

CLI: Final = (sys.executable, "-c", "from cni_bridge.cli import main; main()")
DYING: Final = """
import os, sys
left = int(sys.argv.pop(1))
def count(event, arguments):
    global left
    if event in {"open", "os.rename", "os.mkdir", "os.remove", "os.chmod", "subprocess.Popen", "shutil.rmtree"}:
        left -= 1
        if left == 0:
            os._exit(9)
from cni_bridge.cli import main
sys.addaudithook(count)
try:
    main()
finally:
    print(left)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "opt/cni/bin"), str(tmp_path / "opt/cni/lib/cni_bridge"))


def cni_bridge(*arguments: str, program: tuple[str, ...] = CLI) -> Answer:
    done = subprocess.run([*program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    return Answer(done.returncode, done.stdout, done.stderr)


def folders(place: Place) -> tuple[str, ...]:
    return ("--bin-dir", place.bin_dir, "--lib-dir", place.lib_dir)


def install(place: Place, python: str = "") -> None:
    installing.install(place, interpreter.find(python))


def add(place: Place, store: Path, container: str = "c1") -> Answer:
    """Have the installed host-local serve a request that needs modules which most others do not."""
    said = config(store, "10.1.0.0/24", "fd00::/64", resolvConf="/dev/null", stickyAddresses=True, resetAtBoot=True)
    return call((str(place.bin / "host-local"),), variables("ADD", container), said)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(path): path.lstat() for path in (folder, *folder.rglob("*"))}
    return {path: (one.st_mtime_ns, one.st_ino) for path, one in found.items()}


def generations(place: Place) -> set[str]:
    return {path.name for path in place.lib.iterdir() if path.name != installing.REPLACED}


def test_every_plugin_is_there_and_answers(place: Place) -> None:
    done = cni_bridge("install", *folders(place))
    assert (done.code, done.stderr) == (0, "")
    assert sorted(path.name for path in place.bin.iterdir()) == installing.plugins()
    assert {"bridge", "host-local", "loopback"} <= set(installing.plugins())
    for name in installing.plugins():
        assert call((str(place.bin / name),), {"CNI_COMMAND": "VERSION"}, "").said["cniVersion"] == "1.1.0"


@pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS)
def test_a_plugin_installed_for_an_interpreter_is_served_by_its_byte_code_alone(place: Place, tmp_path: Path, python: str) -> None:
    install(place, python)
    for path in place.lib.rglob("*.py"):
        path.unlink()
    answer = add(place, tmp_path / "store")
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.said["ips"][0]["address"] == "10.1.0.2/24"


def test_a_start_writes_nothing(place: Place, tmp_path: Path) -> None:
    install(place)
    before = snapshot(tmp_path / "opt")
    assert add(place, tmp_path / "store").code == 0
    assert snapshot(tmp_path / "opt") == before


def test_everybody_may_read_and_nobody_else_write_whatever_the_umask_is(place: Place) -> None:
    before = os.umask(0o077)
    try:
        install(place)
    finally:
        os.umask(before)
    found = [path for folder in (place.bin, place.lib) for path in folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in found if not path.is_symlink()}
    programs = {path for path in modes if path.parent == place.bin}
    assert {modes[path] for path in modes if path.is_dir() or path in programs} == {0o755}
    assert {modes[path] for path in modes if path.is_file() and path not in programs} == {0o644}


@pytest.mark.skipif(len(INTERPRETERS) < 2, reason="needs two interpreters from 3.11 on")
def test_after_a_change_of_the_interpreter_pods_still_start_and_stderr_says_what_to_do(place: Place, tmp_path: Path) -> None:
    first, second = list(INTERPRETERS.values())[:2]
    python = tmp_path / "python3"
    python.symlink_to(first)
    install(place, str(python))
    python.unlink()
    python.symlink_to(second)
    before = snapshot(place.lib)
    answer = add(place, tmp_path / "store")
    assert answer.said["ips"][0]["address"] == "10.1.0.2/24"
    assert "run `cni-bridge install` again" in answer.stderr
    assert snapshot(place.lib) == before
    checked = cni_bridge("check", *folders(place))
    assert f"{python} is not the Python" in checked.stdout
    assert checked.code == 1
    install(place, str(python))
    assert add(place, tmp_path / "store", "c2").stderr == ""


def test_an_interpreter_that_cannot_run_the_plugins_gives_an_error_object(place: Place, tmp_path: Path) -> None:
    install(place)
    (folder,) = {Path(said["folder"]) for said in installing.installed(place).values()}
    uncompiled = folder / "cni_bridge/uncompiled.py"
    uncompiled.write_text(uncompiled.read_text(encoding="utf-8").replace("(3, 11)", "(9, 0)"), encoding="utf-8")
    (folder / "host-local.bundle").unlink()
    answer = add(place, tmp_path / "store")
    assert (answer.code, answer.said["code"]) == (1, stub.UNUSABLE)
    assert "run `cni-bridge install` again" in answer.said["msg"]
    assert "or later is needed" in answer.stderr


def test_modules_that_are_gone_give_an_error_object(place: Place, tmp_path: Path) -> None:
    install(place)
    place.lib.rename(tmp_path / "elsewhere")
    answer = add(place, tmp_path / "store")
    assert (answer.code, answer.said["code"]) == (1, stub.UNUSABLE)
    assert "is not whole" in cni_bridge("check", *folders(place)).stdout


def test_an_interpreter_that_is_gone_is_the_kernels_to_tell_and_check_says_what_to_do(place: Place, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.symlink_to(sys.executable)
    install(place, str(python))
    python.unlink()
    with pytest.raises(FileNotFoundError):
        add(place, tmp_path / "store")
    checked = cni_bridge("check", *folders(place))
    assert checked.code == 1
    assert f"{python} does not run: No such file or directory; run `cni-bridge install` again" in checked.stdout


def test_a_plugin_that_runs_is_not_disturbed_by_two_installations(place: Place, tmp_path: Path) -> None:
    install(place)
    said = variables("ADD")
    running = subprocess.Popen([place.bin / "host-local"], env=said, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        install(place)
    text = '{"cniVersion": "1.0.0", "name": "net1", "ipam": {"type": "host-local", "dataDir": "%s", "subnet": "10.1.0.0/24", %s}}'
    out, _ = running.communicate(text % (tmp_path / "store", '"resolvConf": "/dev/null", "resetAtBoot": true'), timeout=60)
    assert '"10.1.0.2/24"' in out
    assert len(generations(place)) == 2


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_anywhere_an_installation_leaves_the_former_one_working(place: Place, tmp_path: Path) -> None:
    """Killed before a file operation: all renames among them, and a sample of the many others."""
    install(place)
    program = (sys.executable, "-c", DYING)
    steps = 100_000 - int(cni_bridge("100000", "install", *folders(place), program=program).stdout.splitlines()[-1])
    last = {steps - back for back in range(3 * len(installing.plugins()) + 8)}
    for number, step in enumerate(sorted({*range(1, steps, steps // 12), *last})):
        assert cni_bridge(str(step), "install", *folders(place), program=program).code == 9
        answer = add(place, tmp_path / "store", f"c{number}")
        assert (answer.code, answer.stderr) == (0, ""), step
    install(place)
    install(place)
    assert len(generations(place)) == 2
    assert sorted(path.name for path in place.bin.iterdir()) == installing.plugins()


def test_two_installations_at_once_leave_one(place: Place, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: cni_bridge("install", *folders(place)), range(3)))
    assert [answer.code for answer in answers] == [0, 0, 0]
    assert add(place, tmp_path / "store").code == 0
    assert len({said["folder"] for said in installing.installed(place).values()}) == 1


def test_what_was_there_first_is_put_back_and_nothing_else_is_touched(place: Place) -> None:
    place.bin.mkdir(parents=True)
    for name in ("bridge", "macvlan"):
        (place.bin / name).write_bytes(b"\x7fELF of somebody")
        (place.bin / name).chmod(0o711)
    install(place)
    install(place)
    assert (place.lib / installing.REPLACED / "bridge").read_bytes() == b"\x7fELF of somebody"
    assert installing.uninstall(place) == installing.plugins()
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.bin.iterdir()} == {"bridge": 0o711, "macvlan": 0o711}
    assert (place.bin / "bridge").read_bytes() == b"\x7fELF of somebody"
    assert not place.lib.exists()
    assert installing.uninstall(place) == []


def test_a_nodes_root_can_be_elsewhere(place: Place, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: chroot")
    done = cni_bridge("install", *folders(place), "--root", "/proc/self/root", "--python", sys.executable)
    assert (done.code, done.stderr) == (0, "")
    assert "/proc/self/root" not in (place.bin / "host-local").read_text(encoding="utf-8")
    assert add(place, tmp_path / "store").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--python", "python3"), "python3 is no absolute path"),
        (("--python", "/nowhere/python3"), "/nowhere/python3 does not run: No such file or directory"),
        (("--python", "/bin/false"), "/bin/false does not run: exit code 1"),
        (("--bin-dir", "bin"), "'bin' is no absolute path"),
        (("--bin-dir", "/proc/version/bin"), "Not a directory: '/proc/version/bin'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_leaves_nothing(place: Place, arguments: tuple[str, str], says: str) -> None:
    done = cni_bridge("install", *folders(place), *arguments)
    assert done.code in {1, 2}
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not place.bin.exists()


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    made = Namespaces()
    yield made
    made.remove()


@pytest.mark.netns
def test_uninstall_removes_our_masquerading_and_nobody_elses(place: Place, namespaces: Namespaces) -> None:
    (host,) = namespaces.make("host")
    install(place)
    host.nft('table inet cni_bridge { chain postrouting { ip saddr 10.0.0.0/8 masquerade comment "net: a, from: 10.0.0.0/8"; }; }')
    host.nft("table inet cni_plugins_masquerade { chain masq_checks { }; }")
    done = host.call(cni_bridge, "uninstall", *folders(place))
    assert (done.code, done.stderr) == (0, "")
    assert host.run("nft", "list", "tables").split("\n") == ["table inet cni_plugins_masquerade", ""]
    assert host.call(cni_bridge, "uninstall", *folders(place)).code == 0


@pytest.mark.netns
def test_check_names_what_is_missing_with_the_command_that_mends_it(place: Place, namespaces: Namespaces) -> None:
    (host,) = namespaces.make("host")
    before = host.call(cni_bridge, "check", *folders(place))
    assert before.code == 1
    assert f"missing plugin {place.bin_dir}/bridge: it is not there; run `cni-bridge install --bin-dir {place.bin_dir}`" in before.stdout
    install(place)
    after = host.call(cni_bridge, "check", *folders(place))
    lines = after.stdout.splitlines()
    assert (after.code, after.stderr) == (0, "")
    assert f"ok      plugin {place.bin_dir}/bridge" in lines
    for ability in ("bridges", "veth pairs", 'masquerading by nftables, for "ipMasq"'):
        assert f"ok      {ability}" in lines
    assert 'note    net.ipv4.ip_forward = 0: "isGateway" turns it on at the first ADD' in lines
    assert host.run("ip", "-o", "link").count("\n") == 1
    assert host.run("nft", "list", "ruleset") == ""


@pytest.mark.netns
def test_check_tells_that_a_firewall_drops_what_is_forwarded(place: Place, namespaces: Namespaces) -> None:
    (host,) = namespaces.make("host")
    host.run("iptables", "-P", "FORWARD", "DROP")
    assert "put the plugin firewall behind bridge" in host.call(cni_bridge, "check", *folders(place)).stdout
