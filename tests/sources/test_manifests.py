"""A real folder, followed: changes within a second, and what stays in force when something is broken."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import watchfiles
from msgspec.structs import replace

from tests.sources.following import following
from tests.sources.test_documents import yaml_service
from uproxy.config import Config, ManifestSettings
from uproxy.config_rules import Duration
from uproxy.core.model import Kind
from uproxy.core.state import Listed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

BROKEN = "kind: [\n"


def slice_of(name: str) -> str:
    """Make an EndpointSlice's document."""
    return (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
        f"metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n"
        'endpoints: [{addresses: [10.0.0.1]}]\nports: [{name: "", port: 80}]\n'
    )


async def test_an_empty_folder_is_listed_as_it_is(tmp_path: Path) -> None:
    async with following(tmp_path) as found:
        assert found.batches == [[Listed(kind) for kind in Kind]]


async def test_the_first_batch_holds_everything_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{yaml_service('a')}---\n{slice_of('a')}")
    (tmp_path / "b.json").write_text(json.dumps({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}}))
    async with following(tmp_path) as found:
        assert len(found.batches) == 1
        assert set(found.objects) == {"Service default/a", "EndpointSlice default/a-1", "Node n"}
        assert (found.source.files, found.source.objects, found.source.refused) == (2, 3, 0)


async def test_additions_changes_and_removals_are_served_within_a_second(tmp_path: Path) -> None:
    async with following(tmp_path) as found:
        found.write("a.yaml", yaml_service("a"))
        assert await found.until(lambda: found.services() == {"a": "10.96.0.1"}) < 1
        found.write("a.yaml", yaml_service("a", "10.96.0.2"))
        assert await found.until(lambda: found.services() == {"a": "10.96.0.2"}) < 1
        (tmp_path / "a.yaml").unlink()
        assert await found.until(lambda: not found.objects) < 1


async def test_a_configmaps_swap_is_one_batch_within_a_second(tmp_path: Path) -> None:
    def publish(version: str, **files: str) -> None:
        """Do what the kubelet does: a new folder, then one rename of the link ..data to it."""
        (tmp_path / version).mkdir()
        for name, text in files.items():
            (tmp_path / version / f"{name}.yaml").write_text(text)
            if not (tmp_path / f"{name}.yaml").is_symlink():
                (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    publish("..v1", a=yaml_service("a"), b=yaml_service("b"))
    async with following(tmp_path) as found:
        publish("..v2", a=yaml_service("a", "10.96.0.2"), b=yaml_service("b", "10.96.0.3"))
        assert await found.until(lambda: found.services() == {"a": "10.96.0.2", "b": "10.96.0.3"}) < 1
        assert len(found.batches) == 2


async def test_a_change_behind_a_link_that_the_kernel_does_not_tell_of_is_served_within_a_second(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere.yaml"
    folder.mkdir()
    elsewhere.write_text(yaml_service("a"))
    (folder / "a.yaml").symlink_to(elsewhere)
    async with following(folder) as found:
        elsewhere.write_text(yaml_service("a", "10.96.0.2"))
        assert await found.until(lambda: found.services() == {"a": "10.96.0.2"}) < 1


async def test_the_kernels_notices_alone_are_enough(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml_service("a"))
    async with following(tmp_path, Config(poll_interval=Duration(3600))) as found:
        await asyncio.to_thread(_until_watched, tmp_path)
        found.write("a.yaml", yaml_service("a", "10.96.0.2"))
        assert await found.until(lambda: found.services() == {"a": "10.96.0.2"}) < 1


def _until_watched(folder: Path) -> None:
    """Wait until this process has an inotify watch on the folder (proc_pid_fdinfo(5))."""
    inode = f"ino:{folder.stat().st_ino:x}"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for descriptor in Path("/proc/self/fdinfo").iterdir():
            with suppress(FileNotFoundError):
                if any(line.startswith("inotify") and inode in line for line in descriptor.read_text().splitlines()):
                    return
    raise AssertionError("the folder is not watched")


async def test_where_the_kernel_gives_no_notices_the_poll_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_watches_left(*_paths: object, **_settings: object) -> AsyncIterator[None]:
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(watchfiles, "awatch", no_watches_left)
    async with following(tmp_path) as found:
        found.write("a.yaml", yaml_service("a"))
        assert await found.until(lambda: found.services() == {"a": "10.96.0.1"}) < 1
        assert "No space left" in str((await found.until_logged("manifest_notices_failed"))[0]["reason"])


async def test_a_folder_that_vanishes_keeps_what_it_said_and_is_followed_when_it_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.yaml").write_text(yaml_service("a"))
    (folder / "b.yaml").write_text(yaml_service("b"))
    async with following(folder) as found:
        shutil.rmtree(folder)
        (fact,) = await found.until_logged("manifests_unreadable")
        assert fact["reason"] == "No such file or directory"
        assert found.services().keys() <= {"a", "b"}
        folder.mkdir()
        (folder / "a.yaml").write_text(yaml_service("a", "10.96.0.2"))
        await found.until(lambda: found.services() == {"a": "10.96.0.2"})
        await found.until_logged("manifests_readable")
        assert len(found.log.named("manifests_unreadable")) == 1


async def test_a_folder_renamed_away_keeps_every_object_in_force(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.yaml").write_text(yaml_service("a"))
    async with following(folder) as found:
        folder.rename(tmp_path / "away")
        await found.until_logged("manifests_unreadable")
        assert found.services() == {"a": "10.96.0.1"}
        (tmp_path / "away").rename(folder)
        await found.until_logged("manifests_readable")
        found.write("a.yaml", yaml_service("a", "10.96.0.2"))
        assert await found.until(lambda: found.services() == {"a": "10.96.0.2"}) < 1
        assert all(Listed(kind) not in batch for batch in found.batches[1:] for kind in Kind)


async def test_another_folder_in_the_same_place_is_followed_with_the_kernels_notices(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    async with following(folder) as found:
        folder.rename(tmp_path / "away")
        folder.mkdir()
        found.write("a.yaml", yaml_service("a"))
        await found.until(lambda: found.services() == {"a": "10.96.0.1"})
        await asyncio.to_thread(_until_watched, folder)


async def test_a_file_that_does_not_parse_keeps_what_it_said_while_everything_else_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{yaml_service('a')}---\n{yaml_service('b')}")
    async with following(tmp_path) as found:
        found.write("a.yaml", f"{yaml_service('a', '10.96.0.7')}---\n{BROKEN}")
        found.write("c.yaml", yaml_service("c"))
        await found.until(lambda: found.services() == {"a": "10.96.0.1", "b": "10.96.0.1", "c": "10.96.0.1"})
        (refused,) = await found.until_logged("manifest_refused")
        assert (refused["file"], refused["document"], refused["line"]) == ("a.yaml", 2, 7)
        assert found.source.refusals == {"file": 1, "object": 0, "field": 0, "duplicate": 0}
        found.write("a.yaml", yaml_service("a", "10.96.0.7"))
        await found.until(lambda: found.services() == {"a": "10.96.0.7", "c": "10.96.0.1"})
        assert found.log.named("manifest_accepted") == [{"file": "a.yaml"}]
        assert found.source.refused == 0


async def test_a_broken_object_is_refused_with_everything_that_finds_it_and_keeps_its_previous_version(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{yaml_service('a')}---\n{yaml_service('b')}")
    async with following(tmp_path) as found:
        found.write("a.yaml", f"{yaml_service('a', '10.96.0.7')}---\n{yaml_service('b', 'not-an-address')}")
        await found.until(lambda: found.services() == {"a": "10.96.0.7", "b": "10.96.0.1"})
        (refused,) = found.refused()
        assert {key: refused[key] for key in ("file", "document", "line", "subject")} == {
            "file": "a.yaml",
            "document": 2,
            "line": 5,
            "subject": "Service default/b",
        }
        assert refused["field"]
        assert refused["reason"]


async def test_what_is_refused_is_logged_once_until_it_changes(tmp_path: Path) -> None:
    broken = yaml_service("b", "not-an-address")
    (tmp_path / "a.yaml").write_text(broken)
    (tmp_path / "z.yaml").write_text(BROKEN)
    async with following(tmp_path) as found:
        assert len(found.refused()) == 2
        for round_number in range(3):
            found.write("a.yaml", f"{yaml_service(f's{round_number}')}---\n{broken}")
            os.utime(tmp_path / "z.yaml")
            await found.until_changed_file_was_read("marker.yaml")
        assert len(found.refused()) == 2
        found.write("a.yaml", yaml_service("b", "another"))
        await found.until_logged("manifest_refused", 3)
        assert found.source.refusals == {"file": 1, "object": 2, "field": 0, "duplicate": 0}


async def test_the_same_object_in_two_files_is_refused_in_the_second_and_both_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml_service("a", "10.96.0.1"))
    (tmp_path / "b.yaml").write_text(f"{yaml_service('b')}---\n{yaml_service('a', '10.96.0.2')}")
    async with following(tmp_path) as found:
        assert found.services() == {"a": "10.96.0.1", "b": "10.96.0.1"}
        (refused,) = found.refused()
        assert (refused["file"], refused["document"], refused["subject"]) == ("b.yaml", 2, "Service default/a")
        assert "a.yaml" in str(refused["reason"])
        (tmp_path / "a.yaml").unlink()
        await found.until(lambda: found.services() == {"a": "10.96.0.2", "b": "10.96.0.1"})
        assert (found.source.refusals["duplicate"], found.source.refused) == (1, 0)


async def test_an_object_that_moves_to_another_file_is_never_gone(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(yaml_service("a"))
    async with following(tmp_path) as found:
        (tmp_path / "b.yaml").unlink()
        (tmp_path / "a.yaml").write_text(yaml_service("a"))
        await found.until_changed_file_was_read("marker.yaml")
        (batch,) = found.batches[1:]
        assert len(batch) == 1, "the marker's event and no other"


async def test_kinds_that_are_not_read_are_named_once_per_file(tmp_path: Path) -> None:
    deployment = "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: d}\n"
    (tmp_path / "a.yaml").write_text(f"{deployment}---\n{deployment}---\n{yaml_service('a')}")
    async with following(tmp_path) as found:
        found.write("a.yaml", f"{deployment}---\n{yaml_service('a', '10.96.0.2')}")
        await found.until(lambda: found.services() == {"a": "10.96.0.2"})
        (skipped,) = found.log.named("manifest_skipped")
        assert (skipped["file"], skipped["subject"]) == ("a.yaml", "Deployment.apps")


async def test_a_service_without_an_address_says_why_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml_service("a", "''"))
    async with following(tmp_path) as found:
        (skipped,) = found.log.named("manifest_skipped")
        assert skipped["subject"] == "Service default/a"
        assert "clusterIP" in str(skipped["reason"])


async def test_a_file_is_not_read_while_it_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{yaml_service('a')}---\n{yaml_service('b')}")
    async with following(tmp_path) as found:
        with (tmp_path / "a.yaml").open("w") as file:  # empty from here on
            await asyncio.sleep(0.02)
            file.write(yaml_service("a", "10.96.0.2"))
            file.flush()
            await asyncio.sleep(0.02)
            file.write("---\n" + yaml_service("b"))
        await found.until(lambda: found.services() == {"a": "10.96.0.2", "b": "10.96.0.1"})
        assert len(found.batches) == 2, "what was there half was never served"


async def test_a_file_that_is_written_to_without_end_does_not_hold_up_others(tmp_path: Path) -> None:
    ended = threading.Event()

    def scribble() -> None:
        with (tmp_path / "busy.yaml").open("a") as file:
            while not ended.wait(0.01):
                file.write("# more\n")
                file.flush()

    scribbling = threading.Thread(target=scribble)
    scribbling.start()
    try:
        async with following(tmp_path) as found:
            found.write("a.yaml", yaml_service("a"))
            assert await found.until(lambda: found.services() == {"a": "10.96.0.1"}) < 1
    finally:
        ended.set()
        scribbling.join()


async def test_a_change_right_after_the_file_was_read_is_not_missed_where_clocks_are_coarse(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml_service("a", "10.96.0.1"))
    async with following(tmp_path) as found:
        for address in ("10.96.0.2", "10.96.0.3", "10.96.0.4"):
            path.write_text(yaml_service("a", address))
            os.utime(path)
            await found.until(lambda wanted=address: found.services() == {"a": wanted})  # type: ignore[misc]  # a default binds the loop's value


async def test_a_file_that_cannot_be_opened_keeps_what_it_said_and_is_served_once_it_can(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml_service("a"))
    (tmp_path / "b.yaml").write_text(yaml_service("b"))
    async with following(tmp_path) as found:
        (tmp_path / "link").symlink_to("a.yaml")  # a link to itself, once it has the other one's name
        (tmp_path / "link").replace(tmp_path / "a.yaml")
        (refused,) = await found.until_logged("manifest_refused")
        assert (refused["file"], refused["reason"]) == ("a.yaml", "Too many levels of symbolic links")
        found.write("b.yaml", yaml_service("b", "10.96.0.2"))
        await found.until(lambda: found.services() == {"a": "10.96.0.1", "b": "10.96.0.2"})
        found.write("a.yaml", yaml_service("a", "10.96.0.3"))
        assert await found.until(lambda: found.services()["a"] == "10.96.0.3") < 1
        assert len(found.refused()) == 1


async def test_a_file_beyond_the_limit_is_refused_and_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml_service("a"))
    (tmp_path / "b.yaml").write_text("# " + "x" * 2_000)
    async with following(tmp_path, Config(manifest=ManifestSettings(max_file_bytes=1024))) as found:
        assert found.services() == {"a": "10.96.0.1"}
        (refused,) = found.refused()
        assert refused["reason"] == "is longer than 1024 bytes (manifest.maxFileBytes)"


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Leave out full collections, which the process as a whole avoids by settings of its own."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
async def test_ten_thousand_documents_do_not_stop_the_loop(tmp_path: Path) -> None:
    number = 5_000
    text = "---\n".join(f"{yaml_service(f's{index}')}---\n{slice_of(f's{index}')}" for index in range(number))
    (tmp_path / "all.yaml").write_text(text)
    pauses: list[float] = []

    async def measure() -> None:
        """Note how much CPU time the loop's thread spent away from here each time: other processes do not count."""
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            pauses.append(time.thread_time() - before)

    measuring = asyncio.create_task(measure())
    async with following(tmp_path) as found:
        assert len(found.objects) == 2 * number
        found.write("all.yaml", text.replace("10.96.0.1", "10.96.0.2", 1))
        await found.until(lambda: found.services()["s0"] == "10.96.0.2")
        assert len(found.batches[-1]) == 1
    measuring.cancel()
    assert sum(pauses) > 0.3
    pauses.sort()
    assert pauses[-1] < 0.05
    assert pauses[-20] < 0.02


async def test_settings_of_the_poll_are_honoured_in_a_large_folder(tmp_path: Path) -> None:
    for index in range(300):
        (tmp_path / f"s{index}.yaml").write_text(yaml_service(f"s{index}"))
    async with following(tmp_path, replace(Config(), poll_interval=Duration(0.05))) as found:
        assert len(found.services()) == 300
        (tmp_path / "s7.yaml").unlink()
        await found.until(lambda: "s7" not in found.services())
        assert len(found.services()) == 299
