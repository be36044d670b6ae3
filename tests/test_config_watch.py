"""Following the file of --config: what of a change can be applied, and when a change is noticed at all."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.dataplane.running import RecordingLog
from uproxy.config import Config
from uproxy.config_documents import flat
from uproxy.config_file import load
from uproxy.config_stats import ConfigStats
from uproxy.config_watch import LIVE, ConfigFile, ConfigWatch, part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HEAD: Final = "apiVersion: uproxy.io/v1alpha1\nkind: UproxyConfiguration\n"
NOTICED: Final = 5.0
"""Seconds; noticing takes half of one."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "config.yaml"


def write(path: Path, settings: str = "") -> None:
    path.write_text(f"{HEAD}{settings}\n", encoding="utf-8")


def replace(path: Path, settings: str) -> None:
    staged = path.with_suffix(".new")
    write(staged, settings)
    staged.replace(path)


def read(path: Path, settings: str) -> Config:
    write(path, settings)
    return load(str(path), {}).config


def test_every_live_setting_is_a_setting() -> None:
    assert flat(Config()).keys() >= LIVE


def test_of_a_group_that_changed_the_live_settings_are_taken_and_the_others_wait(path: Path) -> None:
    before = read(path, "sync: {resync: 1m}")
    parts = part(before, read(path, "sync: {resync: 2m, slice: 1ms}\nloop: asyncio\ndrainTimeout: 1s"))
    assert sorted(parts.applied) == ["drainTimeout", "sync.resync"]
    assert sorted(parts.pending) == ["loop", "sync.slice"]
    assert parts.config == read(path, "sync: {resync: 2m}\ndrainTimeout: 1s")


def test_settings_that_say_the_same_in_other_words_are_no_change(path: Path) -> None:
    before = read(path, "sync: {resync: 60s}\nnodePortAddresses: [all]")
    assert part(before, read(path, "nodePortAddresses:\n- all\nsync:\n  resync: 1m"))[1:] == ((), ())


class Watched:
    """A watch of a file: the settings that were applied, one after the other, and how often it asked for the end."""

    def __init__(self, path: Path) -> None:
        self.applied: asyncio.Queue[Config] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.log = RecordingLog()
        self.stats = ConfigStats()
        file = ConfigFile(str(path), partial(load, str(path), {}))
        self.watch = ConfigWatch(file, file.load().config, self.log, self.stats, apply=self.applied.put_nowait, end=self.ended.set)

    async def next_drain_timeout(self) -> str:
        """Wait for what is applied next, and give that setting of it."""
        return (await asyncio.wait_for(self.applied.get(), NOTICED)).drain_timeout.text()

    def said(self, event: str) -> list[dict[str, object]]:
        """Give the facts of an event."""
        return [facts for name, facts in self.log.facts if name == event]


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Watched]:
    watched = Watched(path)
    task = asyncio.create_task(watched.watch.run())
    yield watched
    task.cancel()
    await asyncio.wait([task])


async def test_a_file_written_in_place_or_replaced_is_applied_once(path: Path) -> None:
    write(path)
    async with watching(path) as watched:
        write(path, "drainTimeout: 1s")
        assert await watched.next_drain_timeout() == "1s"
        replace(path, "drainTimeout: 2s")
        assert await watched.next_drain_timeout() == "2s"
        assert watched.applied.empty()
        assert watched.stats.reloads == {"applied": 2, "pending": 0, "refused": 0}


async def test_what_was_written_between_reading_and_watching_is_applied(path: Path) -> None:
    write(path)
    watched = Watched(path)
    write(path, "drainTimeout: 1s")
    task = asyncio.create_task(watched.watch.run())
    assert await watched.next_drain_timeout() == "1s"
    task.cancel()
    await asyncio.wait([task])


def linked(path: Path) -> Path:
    """Make the path a link to a file of another folder."""
    elsewhere = path.parent.parent / "elsewhere.yaml"
    write(elsewhere, "configCheck: 300ms")
    path.symlink_to(elsewhere)
    return elsewhere


async def test_a_link_to_a_file_elsewhere_is_looked_at_from_time_to_time(path: Path) -> None:
    elsewhere = linked(path)
    async with watching(path) as watched:
        write(elsewhere, "configCheck: 300ms\ndrainTimeout: 1s")
        assert await watched.next_drain_timeout() == "1s"


async def refused_once_more(watched: Watched, path: Path, settings: str) -> None:
    seen = watched.stats.reloads["refused"]
    write(path, settings)
    async with asyncio.timeout(NOTICED):
        while watched.stats.reloads["refused"] == seen:  # noqa: ASYNC110 - counting has no event
            await asyncio.sleep(0.01)
    assert watched.stats.is_refused


async def test_a_wrong_file_is_said_once_and_the_next_right_one_is_applied(path: Path) -> None:
    write(path)
    async with watching(path) as watched:
        for wrong in ("drainTimeout: 0s", "drainTimeout: 0s # again", "drainTimeout: 0s # and again"):
            await refused_once_more(watched, path, wrong)
        assert len(watched.said("configuration_refused")) == 1
        write(path, "drainTimeout: 1s")
        assert await watched.next_drain_timeout() == "1s"
        assert not watched.stats.is_refused


async def test_with_exit_on_config_change_nothing_is_applied_any_more(path: Path) -> None:
    write(path, "exitOnConfigChange: true")
    async with watching(path) as watched:
        write(path, "exitOnConfigChange: true\ndrainTimeout: 1s\nloop: asyncio")
        await asyncio.wait_for(watched.ended.wait(), NOTICED)
        assert watched.applied.empty()
        (facts,) = watched.said("configuration_changed")
        assert facts["settings"] == ("drainTimeout", "loop")


async def test_without_a_file_there_is_nothing_to_watch() -> None:
    file = ConfigFile("", partial(load, "", {}))
    watch = ConfigWatch(file, Config(), RecordingLog(), ConfigStats(), apply=lambda _: None, end=lambda: None)
    await asyncio.wait_for(watch.run(), NOTICED)
