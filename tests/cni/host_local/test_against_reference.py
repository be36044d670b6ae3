"""Ours and the reference implementation side by side and mixed: the same results and the same files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.cni.host_local.configs import config, files, leases
from tests.cni.plugins import Answer, Config, call, ours, reference, variables

OURS = ours("host-local")
VERSION = "1.0.0"  # the newest that release 1.1.1 knows


def run(plugin: tuple[str, ...], command: str, said: Config, container: str = "c1", *, ifname: str = "eth0", args: str = "") -> Answer:
    return call(plugin, variables(command, container, ifname, args), said)


def normalised(answer: Answer) -> dict[str, Any]:
    """Leave out an empty dns, which later releases leave out too, and of an error all but that it is one."""
    said = answer.said
    return {"failed": True} if "code" in said else {key: value for key, value in said.items() if key != "dns" or value}


CONFIGS: dict[str, dict[str, Any]] = {
    "one subnet": {"subnet": "10.1.0.0/29"},
    "everything given": {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.250", "rangeEnd": "10.1.0.255", "gateway": "10.1.0.252"},
    "dual stack": {"ranges": [[{"subnet": "10.1.0.0/29"}], [{"subnet": "fd00::/125"}]]},
    "many ranges in a set": {
        "ranges": [[{"subnet": "10.1.0.0/30"}, {"subnet": "10.3.0.0/30", "gateway": "10.3.0.2"}, {"subnet": "10.2.0.0/29"}]]
    },
    "an address with two runs of zeros": {"subnet": "2001:db8:0:0:1:0:0:0/126"},
    "old key and new ones": {
        "subnet": "fd00::/126",
        "ranges": [[{"subnet": "10.1.0.0/29"}], [{"subnet": "10.2.0.0/29"}]],
        "routes": [{"dst": "10.0.0.7/8", "gw": "10.1.0.1"}],
    },
    "a gateway elsewhere": {"subnet": "10.1.0.0/29", "gateway": "192.168.0.1"},
}


@pytest.mark.parametrize("ipam", CONFIGS.values(), ids=CONFIGS)
def test_a_long_history_gives_the_same_results_and_files(tmp_path: Path, ipam: dict[str, Any]) -> None:
    theirs = reference("host-local")
    dice = random.Random(7)
    places = [tmp_path / "ours", tmp_path / "theirs"]
    for _ in range(25):
        command = dice.choice(["ADD", "ADD", "ADD", "DEL", "CHECK"])
        container, ifname = dice.choice("abcdef"), dice.choice(["eth0", "net1"])
        answers = [
            run(plugin, command, config(place, version=VERSION, **ipam), container, ifname=ifname)
            for plugin, place in zip((OURS, theirs), places, strict=True)
        ]
        assert normalised(answers[0]) == normalised(answers[1])
        assert answers[0].code == answers[1].code
        assert files(places[0]) == files(places[1])
    assert leases(places[0])


@pytest.mark.parametrize("ipam", CONFIGS.values(), ids=CONFIGS)
def test_one_store_serves_both_in_turn(tmp_path: Path, ipam: dict[str, Any]) -> None:
    """Who does what is thrown with dice; a third one, ours alone, shows what should come out."""
    theirs = reference("host-local")
    dice = random.Random(11)
    for _ in range(25):
        command = dice.choice(["ADD", "ADD", "DEL", "CHECK"])
        container = dice.choice("abcdef")
        mixed = run(dice.choice((OURS, theirs)), command, config(tmp_path / "mixed", version=VERSION, **ipam), container)
        alone = run(OURS, command, config(tmp_path / "alone", version=VERSION, **ipam), container)
        assert (normalised(mixed), mixed.code) == (normalised(alone), alone.code)
        assert files(tmp_path / "mixed") == files(tmp_path / "alone")


@pytest.mark.parametrize(
    "args",
    ["IP=10.1.0.5", "IP=10.1.0.5/24", "IP=::ffff:10.1.0.5", "IP=10.1.0.1", "IP=10.7.0.1", "IgnoreUnknown=true;FOO=BAR", "FOO=BAR", "IP="],
)
def test_requests_are_granted_and_refused_alike(tmp_path: Path, args: str) -> None:
    answers = [
        run(plugin, "ADD", config(tmp_path / place, "10.1.0.0/29", "10.2.0.0/29", version=VERSION), args=args)
        for plugin, place in ((OURS, "ours"), (reference("host-local"), "theirs"))
    ]
    assert normalised(answers[0]) == normalised(answers[1])
    assert leases(tmp_path / "ours") == leases(tmp_path / "theirs")


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours, then theirs", "theirs, then ours"])
def test_what_one_allocated_the_other_checks_and_releases(tmp_path: Path, *, ours_first: bool) -> None:
    first, second = (OURS, reference("host-local")) if ours_first else (reference("host-local"), OURS)
    said = config(tmp_path, "10.1.0.0/24", "fd00::/64", version=VERSION)
    result = run(first, "ADD", said).said
    checked = {**said, "prevResult": result}
    assert run(second, "CHECK", checked).code == 0
    assert run(second, "ADD", said).code == 1
    assert run(second, "DEL", checked).code == 0
    assert run(first, "CHECK", checked).code == 1
    assert leases(tmp_path) == {}


def test_a_lease_in_the_earlier_form_is_released_by_both(tmp_path: Path) -> None:
    for plugin, place in ((OURS, tmp_path / "ours"), (reference("host-local"), tmp_path / "theirs")):
        said = config(place, "10.1.0.0/29", version=VERSION)
        run(plugin, "ADD", said, "other")
        (place / "net" / "10.1.0.4").write_bytes(b"c1\n")
        assert run(plugin, "CHECK", said, ifname="net7").code == 0
        assert run(plugin, "ADD", said, ifname="net7").code == 1
        assert run(plugin, "DEL", said, ifname="net7").code == 0
        assert leases(place) == {"10.1.0.2": "other eth0"}


def test_our_own_files_do_not_disturb_the_reference_implementation(tmp_path: Path) -> None:
    theirs = reference("host-local")
    said = config(tmp_path, "10.1.0.0/29", version=VERSION, stickyAddresses=True, resetAtBoot=True)
    pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web"
    run(OURS, "ADD", said, args=pod)
    (tmp_path / "net" / ".unfinished").write_bytes(b"c9\r\neth0")  # what a crash of ours may leave
    ours_alone = {"boot_id", "pod_addresses", ".unfinished"}
    assert ours_alone <= set(files(tmp_path))
    assert run(theirs, "ADD", said, "c2", args=pod).said["ips"][0]["address"] == "10.1.0.3/29"
    assert run(theirs, "DEL", said, args=pod).code == 0
    assert ours_alone <= set(files(tmp_path))
    assert run(OURS, "ADD", said, "c9", args=pod).said["ips"][0]["address"] == "10.1.0.2/29"
    assert ".unfinished" not in files(tmp_path)
