"""Stores that are full, read-only or damaged: what ADD, DEL and STATUS say, and that nothing is left of a failure."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.cni.bridge.node import Refused, ours
from tests.cni.faults.launched import Launched, interfaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.namespaces import Namespaces

pytestmark = pytest.mark.netns

V4, V6 = "10.61.0.0/24", "fd61::/64"
PAGES: Final = 16
INODES: Final = 16


@pytest.fixture
def small(namespaces: Namespaces, tmp_path: Path) -> Iterator[Launched]:
    """Give a node whose store is a file system of a few pages and files."""
    with Launched(namespaces, ours(tmp_path / "bin"), tmp_path / "store", f"size={PAGES * 4}k,nr_inodes={INODES}") as made:
        yield made


def remount(node: Launched, how: str) -> None:
    """Make the store's file system read-only (ro) or writable (rw), as a failing disk does."""
    subprocess.run(["nsenter", f"--mount=/proc/{node.launcher}/ns/mnt", "mount", "-o", f"remount,{how}", str(node.store)], check=True)


@pytest.mark.parametrize("scarce", ["pages", "files"])
def test_an_add_that_finds_the_disk_full_anywhere_leaves_nothing_and_takes_nothing_away(small: Launched, scarce: str) -> None:
    """Another pod's leases stay, and with a little more space the ADD works."""
    config, other, pod = small.config(V4, V6, isDefaultGateway=True, podPrefix="host"), small.pod(), small.pod()
    small.add(config, other, CNI_CONTAINERID="other")
    before, filler, refusals, space = small.traces(), small.seen / "filler", 0, 0
    while True:
        fill(filler, scarce, space)
        answer = small.run("ADD", config, pod)
        if not answer.code:
            break
        with pytest.raises(Refused, match="No space left on device") as refused:
            answer.result()
        assert (refused.value.code, small.traces(), interfaces(pod)) == (5, before, ["lo"])
        assert not (small.seen / "net1" / ".unfinished").exists()
        refusals, space = refusals + 1, space + 1
    assert refusals == 3, "two leases, and for a moment the file that becomes the next one"
    fill(filler, scarce, 0)
    small.delete(config, pod)
    assert small.traces() == before


def fill(folder: Path, scarce: str, space: int) -> None:
    """Leave that many pages or files."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    if scarce == "files":
        for number in range(INODES):
            try:
                (folder / f"{number}").touch()
            except OSError:
                break
        for number in range(space):
            (folder / f"{number}").unlink()
        return
    whole = shutil.disk_usage(folder).free
    (folder / "data").write_bytes(bytes(whole))
    with (folder / "data").open("r+b") as file:
        file.truncate(whole - 4096 * space)


def test_a_read_only_store_refuses_add_and_status_and_lets_del_remove_the_rest(small: Launched) -> None:
    config, pod, other = small.config(V4, V6, isDefaultGateway=True, ipMasq=True, cniVersion="1.1.0"), small.pod(), small.pod()
    small.add(config, pod)
    before = small.traces()
    remount(small, "ro")
    for command, container, netns, code in (("ADD", "cid2", other, 5), ("STATUS", "", None, 50), ("DEL", "cid1", pod, 5)):
        with pytest.raises(Refused, match="Read-only file system") as refused:
            small.run(command, config, netns, CNI_CONTAINERID=container).result()
        assert refused.value.code == code
    assert (small.links(), small.leases(), interfaces(pod), interfaces(other)) == (["cni0"], set(before.leases), ["lo"], ["lo"])
    remount(small, "rw")
    small.delete(config, None)
    assert small.leases() == set()


def test_damaged_leases_cost_their_addresses_at_most(node: Launched) -> None:
    """Empty ones, which a crash of others leaves, not even that. DEL takes only what is the attachment's."""
    folder = node.store / "net1"
    folder.mkdir(parents=True)
    (folder / "10.61.0.2").write_bytes(b"")
    (folder / "10.61.0.3").write_bytes(b"\xff\xfe\0half a le")
    (folder / "10.61.0.4").mkdir()
    (folder / "10.61.0.5").symlink_to("nowhere")
    (folder / "10.61.0.6").write_bytes(b"x" * 1_000_000)
    (folder / "last_reserved_ip.0").write_bytes(b"\xff\0" * 500)
    (folder / "10.61.0.999").write_bytes(b"cid1\r\neth0")
    config = node.config(V4, isGateway=True, cniVersion="1.1.0")
    pods = [node.pod() for _ in range(3)]
    given = [node.add(config, pod, CNI_CONTAINERID=f"cid{place}")["ips"][0]["address"] for place, pod in enumerate(pods)]
    assert given == ["10.61.0.2/24", "10.61.0.5/24", "10.61.0.7/24"]
    for place, pod in enumerate(pods):
        node.delete(config, pod, CNI_CONTAINERID=f"cid{place}")
    assert {path.name for path in folder.iterdir() if path.name[0] == "1"} == {"10.61.0.3", "10.61.0.4", "10.61.0.6", "10.61.0.999"}
    with pytest.raises(Refused, match=r"10\.61\.0\.4: Is a directory"):
        node.run("GC", {**config, "cni.dev/valid-attachments": []}).result()
    assert {path.name for path in folder.iterdir() if path.name[0] == "1"} == {"10.61.0.4", "10.61.0.999"}


def test_a_damaged_lease_of_its_own_is_no_reason_to_keep_the_rest(node: Launched) -> None:
    config, pod = node.config(V4, V6, isDefaultGateway=True, podPrefix="host", cniVersion="1.1.0"), node.pod()
    node.add(config, pod)
    (node.store / "net1" / "10.61.0.2").write_bytes(b"cid1\r\n")
    node.delete(config, pod)
    assert (node.links(), node.leases(), interfaces(pod)) == (["cni0"], {"10.61.0.2"}, ["lo"])
    node.run("GC", {**config, "cni.dev/valid-attachments": []}).result()
    assert node.leases() == set()
