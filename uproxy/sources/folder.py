"""The files of a folder: which there are, their bytes, and being woken when something changes.

Owns which names count as manifests and how a file is told from its former self. Must not know what a manifest
says. scan() and read_file() block and belong into a thread; Notices belongs to the loop.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import watchfiles
from msgspec import Struct

from uproxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uproxy.config import Config
    from uproxy.log import Log

SUFFIXES: Final = (".yaml", ".yml", ".json")


class Signature(Struct, frozen=True, gc=False):
    """What tells a file from its former self without reading it; ctime gives away changes that keep size and mtime."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


UNKNOWN: Final = Signature(0, 0, 0, 0, 0)
"""The signature of a file that there is, but that cannot be looked at."""


class Listing(Struct, frozen=True):
    """A folder at one moment: its device and inode, and its manifests by name."""

    identity: tuple[int, int]
    files: Mapping[str, Signature]


def check_folder(folder: str) -> None:
    """Raise UsageError when there is no folder to read manifests from: at the start that is the operator's mistake."""
    try:
        scan(folder)
    except FileNotFoundError:
        raise UsageError(f"--manifests {folder}: does not exist (name a folder with Service and EndpointSlice manifests)") from None
    except NotADirectoryError:
        raise UsageError(f"--manifests {folder}: is not a folder (name the folder that the manifests are in)") from None
    except OSError as error:
        raise UsageError(f"--manifests {folder}: cannot be read: {error.strerror}") from error


def is_manifest(name: str) -> bool:
    """Tell manifests from hidden files, editors' temporaries and anything else, by name."""
    return name.endswith(SUFFIXES) and not name.startswith((".", "#", "~"))


def scan(folder: str) -> Listing:
    """List a folder's manifests, symbolic links followed; blocks. Raises OSError when the folder cannot be read.

    10,000 files take 50 ms.
    """
    identity = os.stat(folder)  # noqa: PTH116 - what os.scandir gives is os' own too
    files: dict[str, Signature] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_manifest(entry.name):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # gone meanwhile, or a link that leads nowhere
                    continue
                except OSError:  # a link to itself, a folder on the way that may not be entered: reading it has the words
                    files[entry.name] = UNKNOWN
                    continue
                if stat.S_ISREG(status.st_mode):
                    files[entry.name] = _signature(status)
    return Listing((identity.st_dev, identity.st_ino), dict(sorted(files.items())))


def read_file(folder: str, name: str, limit: int) -> tuple[bytes, Signature]:
    """Give a file's bytes and the signature it had when it was opened; blocks.

    Raises OSError, and ValueError with the reason when it is longer than limit bytes or no file.
    """
    # O_NONBLOCK: a FIFO that took the file's place would wait for its writer for ever.
    with os.fdopen(os.open(PurePath(folder, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if status.st_size <= limit:
            raw = file.read(limit + 1)
            if len(raw) <= limit:
                return raw, _signature(status)
    raise ValueError(f"is longer than {limit} bytes (manifest.maxFileBytes)")


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Notices:
    """Sets `changed` soon after something changed in the folder, where the kernel tells (inotify).

    It does not tell of folders that do not exist, of network file systems, of files that links lead to elsewhere:
    who waits for `changed` also looks from time to time.
    """

    def __init__(self, folder: str, config: Config, log: Log) -> None:
        self.changed = asyncio.Event()
        self._folder = folder
        self._config = config
        self._log = log
        self._stop = asyncio.Event()

    def renew(self) -> None:
        """Watch what is at the folder's path now: inotify watches an inode, not a path."""
        self._stop.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._stop.clear()
            try:
                await self._watch()
            except FileNotFoundError:
                pass
            except OSError as error:
                self._log.warning("manifest_notices_failed", folder=self._folder, reason=error, remedy="the folder is polled meanwhile")
            await self._until_renewed()

    async def _watch(self) -> None:
        settle_ms = max(1, int(self._config.manifest.settle * 1000))
        # The watching thread wakes once per step: at 100 ms that and the looks at the folder take 0.15 % of a CPU.
        async for _ in watchfiles.awatch(
            self._folder,
            watch_filter=_matters,
            debounce=4 * settle_ms,
            step=settle_ms,
            stop_event=self._stop,
            recursive=False,
        ):
            self.changed.set()

    async def _until_renewed(self) -> None:
        try:
            async with asyncio.timeout(self._config.poll_interval):
                await self._stop.wait()
        except TimeoutError:
            pass


def _matters(_change: watchfiles.Change, path: str) -> bool:
    """Pass over notices of files that are no manifests; ..data is the link that Kubernetes swaps when a ConfigMap changes."""
    name = PurePath(path).name
    return is_manifest(name) or name == "..data"
