"""Watches: one request, and any number of them as if they were one.

A Watch gives batches, what came in one chunk together. Following.batches begins the next watch where the former ended.
Owns positions (resourceVersions), pauses between watches, and when going on is not enough. Must not know what objects
say. Invariant: from a position on, no event is left out; where that cannot be promised it ends with an ApiError, and
only a new list helps.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from uproxy.sources.kubernetes.api_errors import ApiError, Gone, Stalled, TooManyRequests, Unreachable
from uproxy.sources.kubernetes.history import Newest, check_history, rewound
from uproxy.sources.kubernetes.lines import Lines
from uproxy.sources.kubernetes.watch_event import WatchEvent, parse_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from random import Random

    from uproxy.config import KubernetesSettings
    from uproxy.sources.kubernetes.backoff import Backoff
    from uproxy.sources.kubernetes.transport import Transport

Batch = list[WatchEvent]

TIME_OUT: Final = "timeout"
"""The reason of the usual end of a watch: the time that was asked for is over."""
ON_TIME: Final = 0.9
"""After this share of the time asked for, an end is the usual one."""


class Asking(NamedTuple):
    """Whom a collection's watches are asked of, and how."""

    transport: Transport
    path: str
    selectors: Mapping[str, str]
    settings: KubernetesSettings
    random: Random


class Watch:
    """One request, and an asynchronous iterator over its batches. The first one is empty: the request was answered.

    Ends when the server ends it in an orderly way; raises ApiError for anything else. To be closed with aclose().
    parsing: seconds spent on finding events in what came.
    """

    def __init__(self, asking: Asking, query: Mapping[str, str]) -> None:
        self.answered = False
        self.parsing = 0.0
        self._asking = asking
        self._seconds = max(1, int(asking.settings.watch_timeout * asking.random.uniform(1, 2)))
        self._query = {
            **asking.selectors,
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._seconds),
        }
        self._started = time.monotonic()
        self._returned: Batch = []
        self._batches = self._read()

    @classmethod
    def of_everything(cls, asking: Asking) -> Self:
        """Ask for a streamed list: what there is now as events, a bookmark that marks the end, then what changes.

        https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists
        """
        return cls(asking, {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"})

    @classmethod
    def after(cls, position: int, asking: Asking) -> Self:
        """Ask for what changed after a resourceVersion."""
        return cls(asking, {"resourceVersion": str(position)})

    @property
    def age(self) -> float:
        """How long ago it was begun, in seconds."""
        return time.monotonic() - self._started

    @property
    def is_over(self) -> bool:
        """Whether the time that was asked for is over."""
        return self.age >= ON_TIME * self._seconds

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        if self._returned:
            batch, self._returned = self._returned, []
            return batch
        return await anext(self._batches)

    def give_back(self, batch: Batch) -> None:
        """Let these events be the next batch."""
        self._returned = batch

    async def aclose(self) -> None:
        """End the request."""
        await self._batches.aclose()

    async def _read(self) -> AsyncGenerator[Batch, None]:
        path, settings = self._asking.path, self._asking.settings
        lines = Lines(settings.max_line_bytes, path)
        async with self._asking.transport.stream(path, self._query, stall=settings.stall_timeout) as chunks:
            self.answered = True
            yield []
            async for chunk in chunks:
                batch: Batch = []
                began = time.monotonic()
                try:
                    for line in lines.feed(chunk):
                        batch.append(parse_event(line, path))
                except ApiError:
                    if batch:
                        yield batch  # what came before the error is as good as ever
                    raise
                self.parsing += time.monotonic() - began
                if batch:
                    yield batch
        lines.end()


class Start(NamedTuple):
    """Where a list ended: its position, what had changed last, and the watch that goes on there if there is one already."""

    position: int
    newest: Newest
    watch: Watch | None = None


class Following:
    """Watches of one collection, one after the other. restarted: told the reason whenever one has ended, or is refused for good.

    lost: told the reason of each pause.
    """

    def __init__(self, asking: Asking, backoff: Backoff, restarted: Callable[[str], None], lost: Callable[[ApiError], None]) -> None:
        self._asking = asking
        self._backoff = backoff
        self._restarted = restarted
        self._lost = lost
        self._fruitless = 0

    async def batches(self, start: Start) -> AsyncGenerator[Batch, None]:
        """Give what happens after a start, for ever. Raises ApiError: list anew.

        Where a watch broke, the next one begins at once, and a server that asks for a pause gets it.
        """
        position, newest, watch = start
        doubtful = False
        while True:
            begun_at = position
            error: ApiError | None = None
            try:
                if doubtful:
                    await check_history(self._asking.transport, self._asking.path, self._asking.settings, position, newest)
                watch = watch or Watch.after(position, self._asking)
                async with aclosing(watch):
                    async for batch in watch:
                        position, newest = _advance(position, newest, batch)
                        if position > begun_at:
                            self._backoff.reset()
                        yield batch
                if not watch.is_over:
                    error = Unreachable("the server closed a watch before its time", self._asking.path, reason="closed")
            except ApiError as caught:
                error = caught
            if (watch is not None and watch.answered) or isinstance(error, Gone | TooManyRequests):
                self._restarted(error.reason if error else TIME_OUT)
            if isinstance(error, TooManyRequests):
                self._lost(error)
                await asyncio.sleep(self._backoff.failed(error.retry_after))
            elif error is not None:
                self._go_on_or_raise(error, watch, advanced=position > begun_at)
            doubtful, watch = error is not None, None

    def _go_on_or_raise(self, error: ApiError, watch: Watch | None, *, advanced: bool) -> None:
        """Go on only after a watch that worked: a server that cannot be had may be another one, or one restored from a backup, afterwards.

        Twice in a row nothing but an error: going on is of no use.
        """
        if watch is None or not watch.answered or isinstance(error, Gone | Stalled):
            raise error
        lasted = advanced or watch.age >= self._asking.settings.retry_limit
        self._fruitless = 0 if lasted else self._fruitless + 1
        if self._fruitless > 1:
            self._fruitless = 0
            raise error


def _advance(position: int, newest: Newest, batch: Batch) -> tuple[int, Newest]:
    for event in batch:
        if event.resource_version < position:
            raise rewound(position, event.resource_version, "a watch")
        position, newest = event.resource_version, newest.after(event)
    return position, newest
