"""When the next round is due: a change (with the rest of its burst), a retry or the resync.

Owns the timing only. Knows nothing of what a round does.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uproxy.config import SyncSettings


class Occasion(Enum):
    """Why a round takes place. A resync compares everything; a retry tries what failed."""

    CHANGE = "change"
    RETRY = "retry"
    RESYNC = "resync"


class Wake:
    """A one-slot cell: any number of set() calls before the next round cause one round."""

    def __init__(self, settings: SyncSettings) -> None:
        self._settings = settings
        self._event = asyncio.Event()
        self._failures = 0
        self._retry_at: float | None = None
        self._resync_at = 0.0
        self._began: float | None = None

    def use(self, settings: SyncSettings) -> None:
        """Go by other settings from the next round on: a resync that comes more often now is due earlier."""
        self._settings = settings
        self._resync_at = min(self._resync_at, asyncio.get_running_loop().time() + settings.resync)

    def set(self) -> None:
        """Ask for a round."""
        self._event.set()

    def failed(self) -> float:
        """Ask for a retry after a pause that doubles each time; give the pause in seconds."""
        pause = min(self._settings.retry_base * 2.0 ** min(self._failures, 32), self._settings.retry_limit)
        self._failures += 1
        self._retry_at = asyncio.get_running_loop().time() + pause
        return pause

    def succeeded(self, *, retry: bool) -> None:
        """Note that a round went through; retry: some of it must be tried again, after a pause that doubles too."""
        if not retry:
            self._failures = 0
            self._retry_at = None
        elif self._retry_at is None:
            self.failed()

    async def wait(self) -> Occasion:
        """Wait until a round is due. The round lasts until the next call."""
        loop = asyncio.get_running_loop()
        patience = self._patience(loop.time())
        due = self._resync_at if self._retry_at is None else min(self._retry_at, self._resync_at)
        try:
            async with asyncio.timeout_at(due):
                await self._event.wait()
            await self._burst(loop.time() + patience)
        except TimeoutError:
            pass
        self._event.clear()
        self._began = now = loop.time()
        if now >= self._resync_at:
            self._resync_at = now + self._settings.resync
            return Occasion.RESYNC
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            return Occasion.RETRY
        return Occasion.CHANGE

    def _patience(self, now: float) -> float:
        """Give how long a burst may last at the most, in seconds, so that rounds do not take more than their share of time."""
        settings = self._settings
        took = 0.0 if self._began is None else now - self._began
        return min(settings.debounce_limit, max(settings.debounce, took / settings.share))

    async def _burst(self, limit: float) -> None:
        """Wait until no further change came for a while, but not beyond limit."""
        loop = asyncio.get_running_loop()
        while self._event.is_set() and loop.time() < limit:
            self._event.clear()
            await asyncio.sleep(self._settings.debounce)
