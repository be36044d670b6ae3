"""The file of --config while the process runs: what a change of it means is applied, or waits for the next start.

Owns noticing the change, and which settings can be applied live. Must not know how one is applied. Invariant: what is in
force is always a Config that was read as a whole: a file that is wrong, half written or gone changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import watchfiles
from msgspec import Struct
from msgspec.structs import replace

from uproxy.config_documents import flat
from uproxy.errors import UsageError

if TYPE_CHECKING:
    from uproxy.config import Config
    from uproxy.config_file import Loaded
    from uproxy.config_stats import ConfigStats
    from uproxy.kube_proxy_config import Remark
    from uproxy.log import Log

LIVE: Final = frozenset({
    "nodePortAddresses", "bindAddress", "allowExternalIps", "keepClientAddress", "detectLocalMode", "clusterCidrs",
    "podBridgeInterface", "podInterfaceNamePrefix", "drainTimeout", "drainHandshake", "exitOnConfigChange",
    "configCheck", "sync.debounce", "sync.debounceLimit", "sync.share", "sync.resync", "sync.retryBase", "sync.retryLimit",
    "logging.format", "logging.verbosity", "logging.repeatInterval", "metrics.perService", "metrics.perServiceLimit",
})  # fmt: skip
"""Settings that are read where they are used, or can be put in their place while connections go on."""
STEP_MS: Final = 200
"""How often the thread that watches wakes, 20 us each: a change is noticed within half a second, which nobody who edits a file notices."""


class ConfigFile(NamedTuple):
    """The file ("" for none), and reading all settings anew as the start did; raises UsageError."""

    path: str
    load: Callable[[], Loaded]


class Parts(NamedTuple):
    """A new Config taken apart: what is in force from now on, the settings that are new in it, those that have to wait."""

    config: Config
    applied: tuple[str, ...]
    pending: tuple[str, ...]


def part(current: Config, new: Config) -> Parts:
    """Take from a new Config what can be applied live."""
    before, after = flat(current), flat(new)
    changed = [name for name in after if before[name] != after[name]]
    applied = tuple(name for name in changed if name in LIVE)
    return Parts(_with_live(current, new), applied, tuple(name for name in changed if name not in LIVE))


def _with_live(current: Config, new: Config) -> Config:
    taken: dict[str, object] = {}
    for encoded, name in _fields(new):
        group = getattr(new, name)
        if encoded in LIVE:
            taken[name] = group
        elif isinstance(group, Struct):
            own = {inner: getattr(group, inner) for each, inner in _fields(group) if f"{encoded}.{each}" in LIVE}
            taken[name] = replace(getattr(current, name), **own)
    return replace(current, **taken)


def _fields(settings: Struct) -> list[tuple[str, str]]:
    return list(zip(settings.__struct_encode_fields__, settings.__struct_fields__, strict=True))


def _notices(folder: Path, check: float) -> AsyncGenerator[set[watchfiles.main.FileChange], None]:
    """Give what the kernel tells of the folder, and nothing once it was silent for `check` seconds. Raises OSError."""
    return watchfiles.awatch(
        folder, watch_filter=None, debounce=2 * STEP_MS, step=STEP_MS, recursive=False,
        rust_timeout=int(check * 1000), yield_on_timeout=True,
    )  # fmt: skip


class ConfigWatch:
    """Follows the file. config: what is in force. apply: called with what is in force from now on. end: asks the process to end."""

    def __init__(
        self, file: ConfigFile, config: Config, log: Log, stats: ConfigStats, *, apply: Callable[[Config], None], end: Callable[[], None]
    ) -> None:
        self.config = config
        self._file = file
        self._log = log
        self._stats = stats
        self._apply = apply
        self._end = end
        self._remarks: list[Remark] | None = None
        self._refused = ""

    def remark(self, remarks: list[Remark]) -> None:
        """Log what of the configuration comes to nothing, unless that was said already."""
        if remarks != self._remarks:
            for one in remarks:
                self._log.warning("configuration_passed_over", place=one.place, reason=one.reason)
        self._remarks = remarks

    async def run(self) -> None:
        """Watch until cancelled."""
        if not self._file.path:
            return
        known = await self._read()
        self._reload()  # what was written since the start
        async for _ in self._occasions():
            found = await self._settled(known)
            if found != known:
                known = found
                self._reload()

    async def _occasions(self) -> AsyncIterator[None]:
        """Give a turn whenever the file may have changed: after a notice of the kernel about its folder, and after some time without one.

        Not the file itself is watched: it is replaced, or a link beside it is, when a ConfigMap changes. The watch is of an
        inode, so after some time it is begun anew, with the folder that is at the path then.
        """
        folder = Path(self._file.path).parent
        while True:
            check = max(STEP_MS / 1000, self.config.config_check)
            try:
                async with aclosing(_notices(folder, check)) as noticed:
                    async for notices in noticed:
                        yield
                        if not notices:
                            break
            except OSError:  # the folder is gone, or the kernel's watches are used up
                await asyncio.sleep(check)
                yield

    async def _settled(self, known: bytes | None) -> bytes | None:
        """Read the file until it stays the same for a while: editors write in several steps."""
        found = await self._read()
        while found != known:
            await asyncio.sleep(self.config.manifest.settle)
            known, found = found, await self._read()
        return found

    async def _read(self) -> bytes | None:
        """Give the file's bytes; None when it cannot be read. On a thread: a network file system may hang."""
        try:
            return await asyncio.to_thread(Path(self._file.path).read_bytes)
        except OSError:
            return None

    def _reload(self) -> None:
        try:
            loaded = self._file.load()
        except UsageError as error:
            self._refuse(str(error))
            return
        self._refused, self._stats.is_refused = "", False
        self.remark(loaded.remarks)
        node_name = loaded.config.node_name or self.config.node_name
        self._take(part(self.config, replace(loaded.config, node_name=node_name)))

    def _refuse(self, reason: str) -> None:
        self._stats.reloads["refused"] += 1
        self._stats.is_refused = True
        if reason != self._refused:
            self._log.warning("configuration_refused", reason=reason, remedy="the former settings stay in force")
        self._refused = reason

    def _take(self, parts: Parts) -> None:
        if not parts.applied and parts.pending == self._stats.pending:
            return
        if self.config.exit_on_config_change:
            self._log.info("configuration_changed", settings=(*parts.applied, *parts.pending), reason="exitOnConfigChange: uproxy ends")
            self._end()
            return
        if parts.applied:
            self.config = parts.config
            self._apply(parts.config)
            self._log.info("configuration_applied", settings=parts.applied)
        if parts.pending:
            self._log.warning("configuration_pending", settings=parts.pending, remedy="these settings wait for the next start")
        self._stats.pending = parts.pending
        self._stats.reloads["pending" if parts.pending else "applied"] += 1
