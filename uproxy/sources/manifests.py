"""A watched folder of manifests as a source of events.

Owns following the folder: which files changed, in which order they are read, and that the loop goes on
meanwhile. Must not know YAML, objects' fields or which file wins. Invariant: after a round, the sink has been
told what the files that could be read say, and what those that could not had said before.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar

from uproxy.core.model import Kind
from uproxy.core.state import Listed
from uproxy.sources.claims import Claims
from uproxy.sources.declarations import declare
from uproxy.sources.documents import Broken, Content, Parsed, parse
from uproxy.sources.folder import Listing, Notices, Signature, check_folder, read_file, scan
from uproxy.sources.refusals import Refusals
from uproxy.sources.yaml_reader import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from uproxy.config import Config
    from uproxy.core.state import Event
    from uproxy.log import Log

__all__ = ["ManifestSource", "check_folder"]

T = TypeVar("T")

SCAN_SHARE: Final = 20
"""Looking at the folder takes one part in so many of the time at most: the pause is at least so many times as long as the last look."""
FILES_PER_READ: Final = 32
"""Files read by one call into a thread: such a call costs 0.1 ms, as much as reading a small file three times."""

# No file has one of these, so such a file is read again at the next look.
_UNSETTLED: Final = Signature(0, 0, -1, 0, 0)
_UNREADABLE: Final = Signature(0, 0, -2, 0, 0)

_Read = tuple[bytes, Signature] | OSError | ValueError
"""What came of reading a file: its bytes, or the reason why there are none."""


class ManifestSource:
    """Follows a folder. The first call of sink ends with Listed of every kind; later ones hold what changed.

    refusals: how much was refused since the start, by reason (file, object, field, duplicate).
    """

    def __init__(self, folder: str, config: Config, log: Log, sink: Callable[[Sequence[Event]], None]) -> None:
        self._folder = folder
        self._config = config
        self._log = log
        self._sink = sink
        self._notices = Notices(folder, config, log)
        self._claims = Claims()
        self._refusals = Refusals(log)
        self._bounds = Bounds(config.manifest.max_nodes, config.manifest.max_depth)
        self._signatures: dict[str, Signature] = {}
        self._known: dict[str, Mapping[bytes, Parsed]] = {}
        self._put_off = False
        self._identity: tuple[int, int] | None = None
        self._trouble = ""
        self._listed = False
        self._slice_ends = 0.0

    @property
    def refusals(self) -> Mapping[str, int]:
        """How much was refused since the start, by reason."""
        return self._refusals.total

    @property
    def refused(self) -> int:
        """How much is refused now."""
        return self._refusals.refused

    @property
    def files(self) -> int:
        """How many manifests are in the folder."""
        return len(self._signatures)

    @property
    def objects(self) -> int:
        """How many objects they declare."""
        return len(self._claims)

    async def run(self) -> None:
        """Follow the folder until cancelled. It may vanish and come back: what it said stays in force meanwhile."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notices.run(), name="manifest-notices")
            await self._follow()

    async def _follow(self) -> None:
        changed = self._notices.changed
        while True:
            changed.clear()
            pause = await self._round()
            try:
                async with asyncio.timeout(pause):
                    await changed.wait()
            except TimeoutError:
                pass

    async def _round(self) -> float:
        """Look at the folder and pass on what changed; give the seconds until the next look.

        While something is being written, all that changed is put off, once: what moves between files must not vanish
        meanwhile, and a file that is written to without end must not hold up the others.
        """
        started = time.monotonic()
        try:
            listing = await asyncio.to_thread(scan, self._folder)
        except OSError as error:
            self._lost(error)
            return self._config.poll_interval
        pause = max(self._config.poll_interval, SCAN_SHARE * (time.monotonic() - started))
        self._found(listing)
        changed = [name for name, signature in listing.files.items() if self._signatures.get(name) != signature]
        gone = [name for name in self._signatures if name not in listing.files]
        self._put_off = not self._put_off and any(self._is_young(listing.files[name]) for name in changed)
        if self._put_off:
            return self._config.manifest.settle
        if changed or gone or not self._listed:
            await self._take(changed, gone)
        unsettled = any(self._signatures.get(name) is _UNSETTLED for name in changed)
        return self._config.manifest.settle if unsettled else pause

    def _lost(self, error: OSError) -> None:
        if self._trouble != str(error):
            self._trouble = str(error)
            self._log.warning("manifests_unreadable", folder=self._folder, reason=error.strerror, kept="what they said before")

    def _found(self, listing: Listing) -> None:
        if self._trouble:
            self._trouble = ""
            self._log.info("manifests_readable", folder=self._folder)
        if self._identity not in {None, listing.identity}:
            self._notices.renew()
        self._identity = listing.identity

    def _is_young(self, signature: Signature) -> bool:
        """Tell whether a file may just be being written, or change again without its times showing it."""
        return 0 <= time.time_ns() - signature.mtime_ns < self._config.manifest.settle * 1e9

    async def _take(self, changed: Sequence[str], gone: Sequence[str]) -> None:
        for start in range(0, len(changed), FILES_PER_READ):
            names = changed[start : start + FILES_PER_READ]
            for name, found in await asyncio.to_thread(self._read, names):
                await self._in_slices(self._take_file(name, found))
        for name in gone:
            await self._in_slices(self._drop_file(name))
        await self._in_slices(self._refusals.duplicates(self._claims.losers()))
        events = await self._in_slices(self._claims.settle())
        if not self._listed:
            self._listed = True
            events.extend(Listed(kind) for kind in Kind)
        if events:
            self._sink(events)

    def _read(self, names: Sequence[str]) -> list[tuple[str, _Read]]:
        """Read files; in a thread."""
        found: list[tuple[str, _Read]] = []
        for name in names:
            try:
                found.append((name, read_file(self._folder, name, self._config.manifest.max_file_bytes)))
            except (OSError, ValueError) as error:
                found.append((name, error))
        return found

    def _take_file(self, name: str, found: _Read) -> Generator[None, None, None]:
        """Take over what a file says, or report why it cannot be read."""
        if isinstance(found, FileNotFoundError):
            return  # gone since the folder was looked at: the next look will say so
        try:
            content = yield from self._parse(name, found)
        except Broken as error:
            self._refusals.broken(name, error)
            return
        self._known[name] = content.chunks
        declarations = yield from declare(content.documents, self._claims.of(name))
        yield from self._refusals.read(name, declarations)
        yield from self._claims.replace(name, declarations.objects)

    def _parse(self, name: str, found: _Read) -> Generator[None, None, Content]:
        """Parse a file and note which version that was; one that could not be read will be tried again. Raises Broken."""
        if isinstance(found, Exception):
            self._signatures[name] = _UNREADABLE
            raise Broken(getattr(found, "strerror", None) or str(found)) from found
        raw, signature = found
        self._signatures[name] = _UNSETTLED if self._is_young(signature) else signature
        known, proxy_name = self._known.get(name, {}), self._config.service_proxy_name
        return (yield from parse(raw, json=name.endswith(".json"), bounds=self._bounds, known=known, proxy_name=proxy_name))

    def _drop_file(self, name: str) -> Generator[None, None, None]:
        yield from self._claims.replace(name, {})
        self._refusals.forget(name)
        del self._signatures[name]
        self._known.pop(name, None)

    async def _in_slices(self, steps: Generator[None, None, T]) -> T:
        """Carry out steps; the loop gets a turn whenever the slice of time that all steps share is used up."""
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # what the generator returns
            if time.monotonic() >= self._slice_ends:
                await asyncio.sleep(0)
                self._slice_ends = time.monotonic() + self._config.sync.slice
