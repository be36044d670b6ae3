"""The verbs as processes: results, what they leave in the store, and what they make of a store that others damaged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cni_bridge.host_local import verbs
from cni_bridge.protocol.errors import CniError
from tests.cni.host_local.configs import NAME, config, files, leases, request
from tests.cni.plugins import Answer, Config, call, ours, variables

PLUGIN = ours("host-local")


def run(command: str, said: Config, container: str = "c1", ifname: str = "eth0", args: str = "") -> Answer:
    return call(PLUGIN, variables(command, container, ifname, args), said)


def address(answer: Answer) -> str:
    """Give the first address of a result, without its length."""
    assert answer.code == 0, answer
    text: str = answer.said["ips"][0]["address"]
    return text.partition("/")[0]


def test_add_gives_an_address_of_each_set_with_routes_and_dns(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(
        "# comment\nnameserver 10.0.0.53\nsearch a.example b.example\nnameserver 10.0.0.54\noptions ndots:5\ndomain example\nsearch\n",
        encoding="utf-8",
    )
    routes = [{"dst": "0.0.0.0/0", "gw": "10.1.0.254", "mtu": 1400}, {"dst": "::/0"}]
    said = config(tmp_path, "10.1.0.0/24", "fd00::/64", routes=routes, resolvConf=str(resolver))
    assert run("ADD", said).said == {
        "cniVersion": "1.1.0",
        "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}, {"address": "fd00::2/64", "gateway": "fd00::1"}],
        "routes": routes,
        "dns": {
            "nameservers": ["10.0.0.53", "10.0.0.54"],
            "search": ["a.example", "b.example"],
            "options": ["ndots:5"],
            "domain": "example",
        },
    }
    assert files(tmp_path) == {
        "10.1.0.2": b"c1\r\neth0",
        "fd00::2": b"c1\r\neth0",
        "last_reserved_ip.0": b"10.1.0.2",
        "last_reserved_ip.1": b"fd00::2",
    }
    assert (tmp_path / NAME / "10.1.0.2").stat().st_mode & 0o777 == 0o600


def test_del_succeeds_whatever_is_missing_and_whatever_became_of_the_ranges(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/24")
    assert run("DEL", said) == Answer(0, "", "")
    assert not (tmp_path / NAME).exists()
    assert address(run("ADD", said)) == "10.1.0.2"
    assert run("DEL", config(tmp_path)) == Answer(0, "", "")
    assert run("DEL", said) == Answer(0, "", "")
    assert leases(tmp_path) == {}


def test_a_second_add_without_a_del_is_refused_and_another_interface_is_not(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/24")
    assert address(run("ADD", said)) == "10.1.0.2"
    refused = run("ADD", said).said
    assert (refused["code"], refused["msg"]) == (
        103,
        "failed to allocate for range 0: 10.1.0.2 has been allocated to c1, duplicate allocation is not allowed",
    )
    assert address(run("ADD", said, ifname="net1")) == "10.1.0.3"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("IP=10.1.0.1", "failed to allocate for range 0: requested ip 10.1.0.1 is subnet's gateway"),
        ("IP=10.1.0.2", "failed to allocate for range 0: requested IP address 10.1.0.2 is not available in range set 10.1.0.1-10.1.0.6"),
        ("IP=10.9.0.2", "failed to allocate all requested IPs: 10.9.0.2"),
    ],
)
def test_a_wish_that_cannot_be_granted_takes_nothing(tmp_path: Path, args: str, message: str) -> None:
    said = config(tmp_path, "fd00::/64", "10.1.0.0/29")
    run("ADD", said, "other")
    before = files(tmp_path)
    refused = run("ADD", said, args=args).said
    assert (refused["code"], refused["msg"].replace("range 1", "range 0")) == (102, message)
    assert files(tmp_path) == before


def test_a_wish_can_be_repeated_by_who_has_it(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/29")
    assert address(run("ADD", said, args="IP=10.1.0.5")) == address(run("ADD", said, args="IP=10.1.0.5/32")) == "10.1.0.5"


def test_an_exhausted_pool_says_so_on_add_and_status(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/30")
    assert run("STATUS", said).said == {"cniVersion": "1.1.0", "pools": [{"ranges": "10.1.0.1-10.1.0.2", "taken": 0, "size": 1}]}
    run("ADD", said)
    refused = run("ADD", said, "c2").said
    assert (refused["code"], refused["msg"]) == (
        101,
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.0.2",
    )
    unavailable = run("STATUS", said).said
    assert (unavailable["code"], unavailable["msg"]) == (50, "no IP addresses available in range set: 10.1.0.1-10.1.0.2 (1 of 1 taken)")
    run("DEL", said)
    assert run("STATUS", said).code == 0
    assert set(files(tmp_path)) == {"last_reserved_ip.0"}


def test_check_wants_the_lease_of_every_address_that_was_reported(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/24", "fd00::/64")
    assert run("CHECK", said).said["code"] == 104
    result = run("ADD", said).said
    assert run("CHECK", {**said, "prevResult": result}) == Answer(0, "", "")
    (tmp_path / NAME / "fd00::2").write_bytes(b"another\r\neth0")
    lost = run("CHECK", {**said, "prevResult": result}).said
    assert (lost["code"], lost["msg"]) == (104, "the lease of fd00::2 is not held by c1 eth0")
    foreign = {**result, "ips": [{"address": "10.1.0.2/24"}, {"address": "192.168.0.9/24"}]}
    assert run("CHECK", {**said, "prevResult": foreign}).code == 0


def test_gc_keeps_what_is_listed_and_nothing_else(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/24")
    for container in ("a", "b", "c"):
        run("ADD", said, container)
    store = tmp_path / NAME
    (store / "10.1.0.9").write_bytes(b"b")  # the form before release 0.7: any interface of that container
    (store / "10.1.0.10").write_bytes(b"gone")
    (store / "10.1.0.11").write_bytes(b"")
    (store / "10.1.0.12").write_bytes(b"\xff\xfe")
    (store / "notes").write_bytes(b"a\r\neth9")
    listed = {**said, "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "net1"}]}
    assert call(PLUGIN, {"CNI_COMMAND": "GC", "CNI_PATH": "/nowhere"}, listed) == Answer(0, "", "")
    assert leases(tmp_path) == {"10.1.0.2": "a eth0", "10.1.0.9": "b"}
    assert {"notes", "last_reserved_ip.0"} <= set(files(tmp_path))


def test_gc_without_a_list_removes_nothing(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/24")
    run("ADD", said)
    assert run("GC", said).said["code"] == 7
    assert leases(tmp_path) == {"10.1.0.2": "c1 eth0"}


def test_leases_that_others_damaged_are_free_when_empty_and_taken_when_not(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/29")
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "10.1.0.2").write_bytes(b"")
    (tmp_path / NAME / "10.1.0.3").write_bytes(b"\0\xff garbage")
    (tmp_path / NAME / "10.1.0.4").mkdir()
    (tmp_path / NAME / "10.1.0.5").write_bytes(b" \r\n")
    (tmp_path / NAME / "last_reserved_ip.0").write_bytes(b"\xff")
    assert [address(run("ADD", said, container)) for container in ("a", "b", "c")] == ["10.1.0.2", "10.1.0.5", "10.1.0.6"]
    assert run("ADD", said, "d").said["code"] == 101


def test_a_container_whose_id_is_an_address_does_not_cost_the_round_robin_its_memory(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/29")
    run("ADD", said, "10.1.0.2")
    run("DEL", said, "10.1.0.2")
    assert files(tmp_path) == {"last_reserved_ip.0": b"10.1.0.2"}


def test_an_interface_name_that_is_no_utf_8_is_kept_byte_for_byte(tmp_path: Path) -> None:
    environment = {name.encode(): value.encode() for name, value in variables("ADD").items()}
    stdin = str(config(tmp_path, "10.1.0.0/29")).replace("'", '"').encode()
    done = subprocess.run(PLUGIN, input=stdin, env={**environment, b"CNI_IFNAME": b"e\xff"}, capture_output=True, check=False)
    assert done.returncode == 0
    assert files(tmp_path)["10.1.0.2"] == b"c1\r\ne\xff"


def test_a_pod_gets_its_address_again_and_others_stay_away_from_it_as_long_as_they_can(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/29", stickyAddresses=True)  # .2 to .6
    web, other = ("IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=" + name for name in ("web-0", "other"))
    assert address(run("ADD", said, "w1", args=web)) == "10.1.0.2"
    assert address(run("ADD", said, "o1", args=other)) == "10.1.0.3"
    run("DEL", said, "w1")
    assert [address(run("ADD", said, f"n{number}")) for number in (4, 5, 6)] == ["10.1.0.4", "10.1.0.5", "10.1.0.6"]
    assert address(run("ADD", said, "w2", args=web)) == "10.1.0.2"
    run("DEL", said, "w2")
    assert address(run("ADD", said, "last")) == "10.1.0.2"
    run("DEL", said, "n5")
    assert address(run("ADD", said, "w3", args=web)) == "10.1.0.5"
    assert files(tmp_path)["pod_addresses"] == b"10.1.0.3 prod/other/eth0\n10.1.0.5 prod/web-0/eth0\n"


def test_a_store_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    refused = run("ADD", config(tmp_path / "file" / "x", "10.1.0.0/29")).said
    assert (refused["code"], refused["msg"]) == (5, f"the store {tmp_path}/file/x/{NAME} failed: Not a directory")
    assert run("STATUS", config(tmp_path / "file" / "x", "10.1.0.0/29")).said["code"] == 50
    assert run("DEL", config(tmp_path / "file" / "x", "10.1.0.0/29")).code == 0


def mounted(tmp_path: Path, prepare: str, verbs_in_turn: str, said: Config) -> list[Answer]:
    """Run verbs one after the other on a small file system that only they see."""
    said_path = tmp_path / "config"
    said_path.write_text(str(said).replace("'", '"'), encoding="utf-8")
    steps = f"""mount -t tmpfs -o size=16k,nr_inodes=8 tmpfs {tmp_path}/store && mkdir {tmp_path}/store/{NAME} && {prepare}
    for verb in {verbs_in_turn}; do CNI_COMMAND=$verb "$@" < {said_path} > {tmp_path}/$verb; echo $?; done
    ls -A {tmp_path}/store/{NAME} | tr '\\n' ' '"""
    (tmp_path / "store").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", steps, "sh", *PLUGIN],
        env={**os.environ, **variables("ADD")},
        capture_output=True,
        text=True,
        check=True,
    )
    *codes, left = done.stdout.split("\n")
    return [
        Answer(int(code), (tmp_path / verb).read_text(encoding="utf-8"), left.strip())
        for code, verb in zip(codes, verbs_in_turn.split(), strict=True)
    ]


@pytest.mark.netns
def test_on_a_full_disk_add_takes_nothing_and_status_says_why(tmp_path: Path) -> None:
    said = config(tmp_path / "store", "10.1.0.0/29")
    fill = f"touch {tmp_path}/store/{NAME}/lock; dd if=/dev/zero of={tmp_path}/store/ballast bs=1k 2>/dev/null;"
    add, status, delete = mounted(tmp_path, fill, "ADD STATUS DEL", said)
    assert (add.code, add.said["code"], add.said["msg"]) == (1, 5, f"the store {tmp_path}/store/{NAME} failed: No space left on device")
    assert (status.code, status.said["code"]) == (1, 50)
    assert status.said["msg"] == f"the store {tmp_path}/store/{NAME} cannot be written: No space left on device"
    assert delete.code == 0
    assert delete.stderr == "lock"


@pytest.mark.netns
def test_on_a_read_only_store_nothing_can_be_promised_and_a_check_still_works(tmp_path: Path) -> None:
    said = config(tmp_path / "store", "10.1.0.0/29")
    store = tmp_path / "store" / NAME
    lease = f"touch {store}/lock; printf 'c1\\r\\neth0' > {store}/10.1.0.2; mount -o remount,ro {store.parent};"
    check, status, delete = mounted(tmp_path, lease, "CHECK STATUS DEL", said)
    assert check.code == 0
    assert (status.said["code"], status.said["msg"]) == (50, f"the store {tmp_path}/store/{NAME} cannot be written: Read-only file system")
    assert (delete.said["code"], delete.said["details"]) == (5, "10.1.0.2: Read-only file system")


def test_a_failed_write_takes_back_what_was_written_before_it(tmp_path: Path) -> None:
    said = config(tmp_path, "10.1.0.0/29", "fd00::/64")
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "last_reserved_ip.1").mkdir()  # the fourth of four writes fails: a folder is in the way
    with pytest.raises(CniError, match="Is a directory") as refused:
        verbs.add(request("ADD", said))
    assert refused.value.code == 5
    assert files(tmp_path) == {"last_reserved_ip.0": b"10.1.0.2"}
