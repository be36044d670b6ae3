"""A ManifestSource that follows a real folder, and waiting for what it says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.dataplane.running import RecordingLog
from uproxy.config import Config
from uproxy.core.model import EndpointSlice, Kind
from uproxy.core.state import Delete, Event, Listed, Put
from uproxy.sources.manifests import ManifestSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

PATIENCE = 20.0
"""Seconds that a test waits for what must come; what has to come within a second is measured."""


class AnnouncingLog(RecordingLog):
    """Keeps every fact and sets `news` at each."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()

    def info(self, event: str, /, **facts: object) -> None:
        """Keep it."""
        super().info(event, **facts)
        self.news.set()

    def warning(self, event: str, /, **facts: object) -> None:
        """Keep it."""
        super().warning(event, **facts)
        self.news.set()


class Following:
    """What the source has said so far. objects: what is served, by kind and name."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.log = AnnouncingLog()
        self.batches: list[Sequence[Event]] = []
        self.objects: dict[str, object] = {}
        self._news = asyncio.Event()
        self.source = ManifestSource(str(folder), config, self.log, self._take)

    def _take(self, events: Sequence[Event]) -> None:
        self.batches.append(events)
        for event in events:
            if isinstance(event, Put):
                kind = Kind(type(event.obj).__name__)
                self.objects[f"{kind} {event.obj.key}"] = event.obj
            elif isinstance(event, Delete):
                del self.objects[f"{event.kind} {event.key}"]
        self._news.set()

    def write(self, name: str, text: str) -> None:
        """Replace a file in one step, as deployment tools do."""
        fresh = self.folder / f".{name}.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.folder / name)

    async def until(self, condition: Callable[[], bool]) -> float:
        """Wait until the condition holds, looking at each batch; give the seconds that took."""
        clock = asyncio.get_running_loop().time
        started = clock()
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()
        return clock() - started

    async def until_logged(self, event: str, number: int = 1) -> list[dict[str, object]]:
        """Wait until a fact was logged so many times; give them all."""
        async with asyncio.timeout(PATIENCE):
            while len(self.log.named(event)) < number:
                self.log.news.clear()
                await self.log.news.wait()
        return self.log.named(event)

    async def until_changed_file_was_read(self, name: str) -> None:
        """Wait until what is in the folder before this call has been read: a file written after it is served."""
        number = len(self.batches)
        self.write(name, "apiVersion: v1\nkind: Node\nmetadata: {name: marker-%d}\n" % number)  # noqa: UP031 - braces are YAML's here
        await self.until(lambda: f"Node marker-{number}" in self.objects)

    def services(self) -> dict[str, str]:
        """Give the served Services' addresses by name."""
        return {name.partition("/")[2]: obj.cluster_ips[0] for name, obj in self.objects.items() if hasattr(obj, "cluster_ips")}

    def slices(self) -> set[str]:
        """Give the served EndpointSlices' names."""
        return {obj.key.name for obj in self.objects.values() if isinstance(obj, EndpointSlice)}

    def refused(self) -> list[dict[str, object]]:
        """Give what was logged as refused."""
        return self.log.named("manifest_refused")


@asynccontextmanager
async def following(folder: Path, config: Config | None = None) -> AsyncIterator[Following]:
    """Follow a folder until the block ends; everything has been listed when it begins."""
    found = Following(folder, config or Config())
    task = asyncio.create_task(found.source.run())
    try:
        await found.until(lambda: bool(found.batches))
        assert found.batches[0][-3:] == [Listed(kind) for kind in Kind]
        yield found
        assert not task.done(), "the source ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
