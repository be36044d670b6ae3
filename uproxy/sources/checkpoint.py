"""The last known state on disk: what a node serves from when it starts and no API server answers.

Owns the file, when it is written and who may be believed. Must not know its bytes (state_file) or what is served
from it. Invariant: at any moment, whatever is killed, the file is a whole state that an API server told, or is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from uproxy.core.model import KubernetesObject
from uproxy.errors import UproxyError
from uproxy.sources import state_file
from uproxy.sources.state_file import Header, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from uproxy.api_stats import ApiStats
    from uproxy.config import Config
    from uproxy.core.state import State
    from uproxy.log import Log

NAME: Final = "state"
FRESH: Final = "state.new"
"""What is being written; it takes the other one's place once it is whole and on the disk."""

BREATH: Final = 0.001
"""Seconds in which everybody else may run after each batch that was encoded: three times as long as a batch takes."""


class Restored(Struct, frozen=True, gc=False):
    """What was served at Unix second `saved`."""

    objects: tuple[KubernetesObject, ...]
    saved: float


class _Disbelieved(UproxyError):
    """A file that is not ours to serve from. It stays where it is until the next save takes its place."""


def load(config: Config, log: Log) -> Restored | None:
    """Give what config.state_dir holds for this node; None if there is nothing that can be served from, with a line that says why.

    Blocks: 20,000 objects take 70 ms. Never raises.
    """
    path = Path(config.state_dir, NAME)
    try:
        header, objects = state_file.read(_read(path)) if config.state_dir else _nothing()
        _believe(header, config)
    except FileNotFoundError:
        return None
    except (OSError, _Disbelieved) as error:
        log.warning("state_refused", file=path, reason=_reason(error))
        return None
    except Unreadable as error:
        log.warning("state_refused", file=path, reason=error.reason, kept=_put_aside(path, error.fault, config.state.kept_aside))
        return None
    log.info("state_read", file=path, objects=len(objects), saved=datetime.fromtimestamp(header.saved, UTC).isoformat(timespec="seconds"))
    return Restored(objects, header.saved)


def _nothing() -> tuple[Header, tuple[KubernetesObject, ...]]:
    raise FileNotFoundError


def _read(path: Path) -> bytes:
    """Give the bytes of a regular file that nobody else may write to."""
    # O_NONBLOCK: a FIFO in the file's place would wait for its writer for ever.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _Disbelieved("is not a regular file")
        if status.st_uid not in {os.geteuid(), 0}:
            raise _Disbelieved(f"belongs to user {status.st_uid}, and this is user {os.geteuid()}")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _Disbelieved(f"may be written to by others (mode {stat.S_IMODE(status.st_mode):o})")
        return file.read()


def _believe(header: Header, config: Config) -> None:
    """Raise _Disbelieved for a state that another node, or this one with another name, was to serve."""
    if header.node != config.node_name:
        raise _Disbelieved(f"is of node {header.node}, and this is {config.node_name}")
    if header.service_proxy_name != config.service_proxy_name:
        raise _Disbelieved(f"holds the Services of proxy {header.service_proxy_name!r}, and this is {config.service_proxy_name!r}")


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _put_aside(path: Path, fault: str, number: int) -> str:
    """Rename the file so that the newest `number` of its kind stay for whoever wants to know; say where it is now."""
    aside = path.with_name(f"{NAME}.{fault}-{int(time.time())}")
    try:
        path.rename(aside)
        for old in sorted(path.parent.glob(f"{NAME}.{fault}-*"), reverse=True)[number:]:
            old.unlink()
    except OSError as error:
        return f"in its place: {_reason(error)}"
    return str(aside)


def store(folder: Path, raw: bytes) -> None:
    """Put bytes into the folder's file, all of them or none, whatever happens meanwhile; blocks. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder / FRESH
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / NAME)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Make the renaming survive a power cut too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Checkpoint:
    """Keeps the file up to date: seldom, on a thread, only with a complete state that an API server told, only when it changed."""

    def __init__(self, config: Config, log: Log, stats: ApiStats) -> None:
        self._config = config
        self._log = log
        self._stats = stats
        self._changed = asyncio.Event()
        self._latest: State | None = None
        self._saved: State | None = None
        self._writing: asyncio.Future[None] | None = None
        self._trouble = ""

    def note(self, state: State) -> None:
        """Take what is known now; cheap, and the same one again is nothing."""
        if self._config.state_dir and state.complete and state is not self._latest:
            self._latest = state
            self._changed.set()

    async def run(self) -> None:
        """Save a while after each change until cancelled, and once more then."""
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(self._config.state.save_interval)
                await self._save()
        finally:
            await self._finish()

    async def _finish(self) -> None:
        # Not asyncio.timeout: before CPython 3.11.4 it ends as CancelledError in a task that is being cancelled, as this one is.
        try:
            await asyncio.wait_for(self._save_the_last(), self._config.state.last_save_timeout)
        except TimeoutError:
            self._failed("the disk did not answer before the end")

    async def _save_the_last(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
        await self._save()

    async def _save(self) -> None:
        """Save what is not saved yet. What was itself restored from the disk is not: its age would be lost."""
        state = self._latest
        if state is None or state is self._saved or self._stats.state_restored_from is not None:
            return
        self._changed.clear()
        header = Header(time.time(), self._config.node_name, self._config.service_proxy_name)
        self._writing = _on_thread(partial(_write, Path(self._config.state_dir), header, state), partial(self._written, header, state))
        await asyncio.shield(self._writing)

    def _written(self, header: Header, state: State, error: Exception | None) -> None:
        self._writing = None
        if error is None:
            self._saved = state
            self._stats.state_saved = header.saved
            if self._trouble:
                self._log.info("state_saved_again", folder=self._config.state_dir)
            self._trouble = ""
        elif isinstance(error, OSError):
            self._failed(_reason(error))
        else:
            self._log.error("state_encoding_failed", exc_info=error)
        if error is not None:
            self._stats.state_failures += 1
            self._changed.set()

    def _failed(self, reason: str) -> None:
        """Say it once: a folder that cannot be written to usually stays so."""
        if reason != self._trouble:
            remedy = "make room or give it to this user, or name another folder with --state-dir"
            self._log.warning("state_not_saved", folder=self._config.state_dir, reason=reason, remedy=remedy)
        self._trouble = reason


def _write(folder: Path, header: Header, state: State) -> None:
    store(folder, state_file.write(header, state, partial(time.sleep, BREATH)))


def _on_thread(work: Callable[[], None], done: Callable[[Exception | None], None]) -> asyncio.Future[None]:
    """Do work on a thread of its own, then call done on the loop.

    When the process ends it does not wait for this thread, as it would for one of asyncio.to_thread's.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        done(error)
        if not ended.done():
            ended.set_result(None)

    def run() -> None:
        failure = None
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it is told on the loop
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            loop.call_soon_threadsafe(settle, failure)

    try:
        threading.Thread(target=run, name="state", daemon=True).start()
    except RuntimeError:
        loop.call_soon(settle, OSError(errno.EAGAIN, "no thread could be started"))
    return ended
