"""The last known state on disk: written whole, seldom and off the loop; believed only when it is ours and undamaged."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from msgspec.structs import replace

from tests.dataplane.running import RecordingLog
from tests.lab.servers import PROJECT
from tests.sources.states import EVERY_FIELD, HEADER, many_services, one_service, state_of, until, written
from uproxy.api_stats import ApiStats
from uproxy.config import Config, StateSettings
from uproxy.config_rules import Duration
from uproxy.core.model import Kind
from uproxy.loop_probe import LoopProbe
from uproxy.sources import checkpoint, state_file
from uproxy.sources.checkpoint import FRESH, NAME, Checkpoint, load, store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from uproxy.core.state import State

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files change hands and folders are mounted")

SOON: Final = "20ms"
LATER: Final = "1h"
WRITER: Final = """
import itertools, pathlib, sys
from tests.sources.states import many_services, written
from uproxy.sources.checkpoint import store
files = [written(many_services(300)), written(many_services(200, first=9000))]
print("ready", flush=True)
for raw in itertools.cycle(files):
    store(pathlib.Path(sys.argv[1]), raw)
"""


def config_of(folder: Path, save_interval: str = SOON) -> Config:
    state = StateSettings(save_interval=Duration.parse(save_interval))
    return Config(state_dir=str(folder), node_name=HEADER.node, service_proxy_name=HEADER.service_proxy_name, state=state)


class Running:
    """A Checkpoint at work."""

    def __init__(self, config: Config) -> None:
        self.log = RecordingLog()
        self.stats = ApiStats()
        self.checkpoint = Checkpoint(config, self.log, self.stats)
        self.task = asyncio.create_task(self.checkpoint.run())

    async def save(self, state: State) -> None:
        """Note a state and wait until it is on the disk."""
        before = self.stats.state_saved
        self.checkpoint.note(state)
        await until(lambda: self.stats.state_saved > before)

    async def end(self) -> None:
        """End it as the process's end does."""
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.task.cancelled(), self.task


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Running]:
    found = Running(config)
    yield found
    assert not found.task.done(), "it ended by itself"
    await found.end()
    assert found.log.unexpected == []


def loaded(config: Config) -> State | None:
    """Load without anything to complain about."""
    log = RecordingLog()
    restored = load(config, log)
    assert [event for event, _ in log.facts] == (["state_read"] if restored else [])
    return state_of(restored.objects) if restored else None


def refused(config: Config) -> dict[str, object]:
    """Load what cannot be served from; give the one line that says so."""
    log = RecordingLog()
    assert load(config, log) is None
    ((event, facts),) = log.facts
    assert event == "state_refused"
    return facts


def inside(folder: Path) -> list[Path]:
    return list(folder.iterdir())


# Saving


async def test_what_was_noted_is_what_the_next_start_reads(tmp_path: Path) -> None:
    config = config_of(tmp_path / "not" / "there" / "yet")
    state = state_of(EVERY_FIELD)
    before = time.time()
    async with running(config) as found:
        await found.save(state)
    restored = load(config, RecordingLog())
    assert restored is not None
    assert state_of(restored.objects) == state
    assert before <= restored.saved == found.stats.state_saved <= time.time()


async def test_a_state_is_saved_when_the_process_ends_however_soon_that_is(tmp_path: Path) -> None:
    config = config_of(tmp_path, LATER)
    async with running(config) as found:
        await asyncio.sleep(0)
        found.checkpoint.note(one_service(1))
    assert loaded(config) == one_service(1)


async def test_what_changes_while_it_is_written_is_saved_too(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with running(config) as found:
        found.checkpoint.note(many_services(3000))
        await until(lambda: any(thread.name == "state" for thread in threading.enumerate()))
        found.checkpoint.note(one_service(2))
        await found.end()
        assert loaded(config) == one_service(2)
        found.task = asyncio.create_task(found.checkpoint.run())
        await asyncio.sleep(0)


async def test_a_burst_of_changes_is_one_save_of_the_last(tmp_path: Path) -> None:
    config = config_of(tmp_path, "300ms")
    async with running(config) as found:
        await found.save(one_service(0))
        first = (tmp_path / NAME).stat().st_ino
        for number in range(1, 100):
            found.checkpoint.note(one_service(number))
            await asyncio.sleep(0.001)
        assert (tmp_path / NAME).stat().st_ino == first, "the first of them is not written at once"
        await until(lambda: (tmp_path / NAME).stat().st_ino != first)
        await until(lambda: found.stats.state_saved == _saved(config))
        only = (tmp_path / NAME).stat()
    assert loaded(config) == one_service(99)
    assert (tmp_path / NAME).stat() == only, "the end had nothing left to write"


def _saved(config: Config) -> float:
    restored = load(config, RecordingLog())
    assert restored is not None
    return restored.saved


async def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with running(config) as found:
        await found.save(one_service(1))
        before = (tmp_path / NAME).stat()
    async with running(config) as found:
        state = one_service(2)
        await found.save(state)
        written_once = (tmp_path / NAME).stat()
        found.checkpoint.note(state)
    assert before != written_once
    assert (tmp_path / NAME).stat() == written_once


@pytest.mark.parametrize("missing", Kind)
async def test_a_state_that_is_not_complete_never_takes_the_place_of_one_that_is(tmp_path: Path, missing: Kind) -> None:
    config = config_of(tmp_path)
    store(tmp_path, written(one_service(1)))
    async with running(config) as found:
        found.checkpoint.note(state_of(EVERY_FIELD, [kind for kind in Kind if kind is not missing]))
    assert loaded(config) == one_service(1)


async def test_a_state_from_the_disk_keeps_its_age_until_the_api_server_has_told_its_own(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    store(tmp_path, written(one_service(1)))
    async with running(config) as found:
        found.stats.state_restored_from = HEADER.saved
        found.checkpoint.note(one_service(1))
        await found.end()
        assert _saved(config) == HEADER.saved
        found.task = asyncio.create_task(found.checkpoint.run())
        found.checkpoint.note(one_service(2))
        found.stats.state_restored_from = None
        await until(lambda: found.stats.state_saved)
    assert loaded(config) == one_service(2)


async def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    config = config_of(tmp_path / "new")
    umask = os.umask(0)
    try:
        async with running(config) as found:
            await found.save(one_service(1))
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new" / NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert [path.name for path in inside(tmp_path / "new")] == [NAME]


async def test_without_a_folder_nothing_is_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = replace(config_of(tmp_path), state_dir="")
    store(tmp_path, written(one_service(1)))
    async with running(config) as found:
        found.checkpoint.note(one_service(2))
    assert loaded(config) is None
    assert loaded(config_of(tmp_path)) == one_service(1)


# A disk that does not do what it should


async def test_a_folder_that_cannot_be_written_to_is_said_once_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file where the folder should be")
    async with running(config_of(folder)) as found:
        found.checkpoint.note(one_service(1))
        await until(lambda: found.stats.state_failures > 3)
        folder.unlink()
        await until(lambda: found.stats.state_saved)
    assert loaded(config_of(folder)) == one_service(1)
    ((_, trouble), (event, _)) = found.log.facts
    assert event == "state_saved_again"
    assert trouble["folder"] == str(folder)
    assert trouble["reason"] == "File exists"
    assert "--state-dir" in str(trouble["remedy"])


@needs_root
@pytest.mark.parametrize(
    ("options", "remount", "reason"),
    [("size=40k", "size=4m", "No space left on device"), ("ro", "rw", "Read-only file system")],
)
def test_a_disk_that_is_full_or_read_only_costs_nothing_but_the_save(tmp_path: Path, options: str, remount: str, reason: str) -> None:
    store(tmp_path, b"")
    mounted = ["unshare", "--mount", sys.executable, "-m", "tests.sources.on_small_disk", str(tmp_path), options, remount]
    done = subprocess.run(mounted, capture_output=True, text=True, cwd=PROJECT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"state_not_saved {reason}", "former state kept", "state_saved_again", "new state saved"]


async def test_a_disk_that_hangs_does_not_keep_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, hangs = threading.Event(), threading.Event()

    def store_slowly(folder: Path, raw: bytes) -> None:
        hangs.set()
        goes_on.wait(60)
        store(folder, raw)

    monkeypatch.setattr(checkpoint, "store", store_slowly)
    config = config_of(tmp_path)
    config = replace(config, state=replace(config.state, last_save_timeout=Duration(0.2)))
    async with running(config) as found:
        found.checkpoint.note(one_service(1))
        await until(hangs.is_set)
        found.checkpoint.note(one_service(2))
        started = time.monotonic()
        await found.end()
        assert 0.19 <= time.monotonic() - started < 5  # the loop's clock is that of the last round
        assert [thread.daemon for thread in threading.enumerate() if thread.name == "state"] == [True]
        goes_on.set()
        await until(lambda: found.stats.state_saved)
        found.task = asyncio.create_task(found.checkpoint.run())
        await asyncio.sleep(0)
    assert [event for event, _ in found.log.facts] == ["state_not_saved", "state_saved_again"]
    assert loaded(config) == one_service(2)


def test_killed_while_writing_it_leaves_a_whole_state(tmp_path: Path) -> None:
    states = [many_services(300), many_services(200, first=9000)]
    store(tmp_path, written(states[0]))
    cut_short = 0
    for attempt in range(40):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=PROJECT) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep((attempt % 10) / 1000)  # it writes all the time: wherever it is
            writer.kill()
        assert loaded(config_of(tmp_path)) in states
        cut_short += (tmp_path / FRESH).exists()
        if cut_short == 5:
            return
    pytest.fail(f"only {cut_short} of 40 were killed while they wrote")


@pytest.mark.parametrize("length", [0, 1, 4096, 12000])
def test_killed_at_any_byte_it_leaves_the_former_state(tmp_path: Path, length: int) -> None:
    raw = written(many_services(1000))
    assert len(raw) > length
    store(tmp_path, written(one_service(1)))
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the kernel ends whoever writes beyond the limit
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (length, length))
        store(tmp_path, raw)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGXFSZ
    assert (tmp_path / FRESH).stat().st_size == length
    assert loaded(config_of(tmp_path)) == one_service(1)
    store(tmp_path, raw)
    assert loaded(config_of(tmp_path)) == many_services(1000)
    assert not (tmp_path / FRESH).exists()


# Believing


def test_a_first_start_finds_nothing_and_says_nothing(tmp_path: Path) -> None:
    assert loaded(config_of(tmp_path)) is None
    assert loaded(config_of(tmp_path / "missing")) is None


def test_a_state_is_read_however_old_it_is(tmp_path: Path) -> None:
    store(tmp_path, written(one_service(1), replace(HEADER, saved=0.0)))
    log = RecordingLog()
    restored = load(config_of(tmp_path), log)
    assert restored is not None
    assert restored.saved == 0
    assert log.facts == [("state_read", {"file": tmp_path / NAME, "objects": 1, "saved": "1970-01-01T00:00:00+00:00"})]


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def flipped(raw: bytes) -> bytes:
    return raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]


@pytest.mark.parametrize(
    ("spoil", "fault", "words"),
    [
        (cut, "damaged", "is cut short: "),
        (flipped, "damaged", "does not match its checksum"),
        (lambda _: b"", "damaged", "is cut short: 0 bytes"),
        (lambda _: b"apiVersion: v1\n" * 9, "damaged", "is no state of uproxy's"),
        (lambda _: state_file.seal(7, b"", b"?"), "newer", "has format 7, and this version reads 1"),
        (lambda _: state_file.seal(0, b"", b"?"), "older", "has format 0, and this version reads 1"),
    ],
)
async def test_what_cannot_be_read_is_put_aside_and_the_next_save_starts_anew(
    tmp_path: Path, spoil: Callable[[bytes], bytes], fault: str, words: str
) -> None:
    config = config_of(tmp_path)
    raw = spoil(written(one_service(1)))
    store(tmp_path, raw)
    facts = refused(config)
    assert words in str(facts["reason"])
    assert facts["file"] == tmp_path / NAME
    (kept,) = inside(tmp_path)
    assert kept.name.startswith(f"state.{fault}-")
    assert time.time() - int(kept.name.rpartition("-")[2]) < 60
    assert str(kept) == facts["kept"]
    assert kept.read_bytes() == raw
    assert loaded(config) is None
    async with running(config) as found:
        await found.save(one_service(2))
    assert loaded(config) == one_service(2)


def test_only_the_newest_of_what_was_put_aside_are_kept(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    others = [tmp_path / "state.newer-1600000000", tmp_path / "notes"]
    old = [tmp_path / f"state.damaged-{moment}" for moment in range(1700000000, 1700000005)]
    for path in (*others, *old):
        path.write_text("")
    store(tmp_path, b"damage")
    kept = refused(config)["kept"]
    assert {str(path) for path in inside(tmp_path)} == {kept, *map(str, others), *map(str, old[-2:])}


@needs_root
def test_what_cannot_be_put_aside_stays_and_is_not_served_from(tmp_path: Path) -> None:
    mounted = ["unshare", "--mount", sys.executable, "-m", "tests.sources.on_small_disk", str(tmp_path), "size=64k"]
    done = subprocess.run(mounted, capture_output=True, text=True, cwd=PROJECT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "state_refused is cut short: 6 bytes; kept in its place: Read-only file system\n"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(HEADER, node="node-2"), "is of node node-2, and this is node-1"),
        (replace(HEADER, service_proxy_name=""), "holds the Services of proxy '', and this is 'edge'"),
    ],
)
def test_another_nodes_or_proxys_state_is_not_served_from(tmp_path: Path, other: state_file.Header, words: str) -> None:
    raw = written(one_service(1), other)
    store(tmp_path, raw)
    assert refused(config_of(tmp_path)) == {"file": tmp_path / NAME, "reason": words}
    assert (tmp_path / NAME).read_bytes() == raw


def make_writable(path: Path) -> None:
    path.chmod(0o620)


def make_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def give_away(path: Path) -> None:
    os.chown(path, 12345, -1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (make_writable, "may be written to by others (mode 620)"),
        (make_link, "Too many levels of symbolic links"),
        (make_fifo, "is not a regular file"),
        (make_folder, "Is a directory"),
        pytest.param(give_away, "belongs to user 12345, and this is user 0", marks=needs_root),
    ],
)
def test_a_file_that_others_could_have_written_is_not_served_from(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    store(tmp_path, written(one_service(1)))
    spoil(tmp_path / NAME)
    assert refused(config_of(tmp_path)) == {"file": tmp_path / NAME, "reason": words}


# Ten thousand Services


def test_ten_thousand_services_are_read_well_within_a_start(tmp_path: Path) -> None:
    state = many_services(10_000)
    store(tmp_path, written(state))
    started, cpu = time.perf_counter(), time.thread_time()
    restored = load(config_of(tmp_path), RecordingLog())
    taken, cpu = time.perf_counter() - started, time.thread_time() - cpu
    assert restored is not None
    assert len(restored.objects) == 20_001
    print(f"load {taken * 1000:.0f} ms, {cpu * 1000:.0f} ms of CPU, {(tmp_path / NAME).stat().st_size} bytes")  # noqa: T201 - shown with -s
    assert cpu < 0.3


async def test_saving_ten_thousand_services_does_not_stop_the_loop(tmp_path: Path) -> None:
    state = many_services(10_000)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.001)  # as the process has it
    gc.disable()
    try:
        longest = [await _longest_pause(config_of(tmp_path / str(attempt)), state) for attempt in range(3)]
    finally:
        gc.enable()
        sys.setswitchinterval(interval)
    print(f"longest pauses {', '.join(f'{each * 1000:.1f} ms' for each in longest)}")  # noqa: T201 - shown with -s
    assert min(longest) < 0.050, "the best of three: other programs may have held the CPU"


def test_no_step_of_encoding_ten_thousand_services_holds_others_up_for_long() -> None:
    state, ends = many_services(10_000), []
    gc.disable()
    try:
        ends.append(time.thread_time())
        state_file.write(HEADER, state, lambda: ends.append(time.thread_time()))
        ends.append(time.thread_time())
    finally:
        gc.enable()
    steps = [later - earlier for earlier, later in pairwise(ends)]
    print(f"{len(steps)} steps, {max(steps) * 1000:.2f} ms at most, {sum(steps) * 1000:.0f} ms together")  # noqa: T201 - shown with -s
    assert max(steps) < 0.003, "CPU time of the longest; most of it is outside Python's lock"


async def _longest_pause(config: Config, state: State) -> float:
    probe = LoopProbe(0.001)
    async with running(config) as found:
        probing = asyncio.create_task(probe.run())
        await found.save(state)
        probing.cancel()
    return probe.longest
