"""One kind's endless list -> watch -> list, as differences for a sink.

Owns the order of these, which form of list is asked for, and that the loop goes on meanwhile. Must not know other kinds
nor what follows from events. Invariant: once listed, what the sink was told is what the API server said last, but for
what is refused; while there is no API server it stays as it is.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from uproxy.core.decode import decode_item
from uproxy.sources.kubernetes.api_errors import ApiError, Garbled, Gone, Refused, ServerFailed, Stalled, TooManyRequests, Unreachable
from uproxy.sources.kubernetes.backoff import Backoff
from uproxy.sources.kubernetes.history import Newest
from uproxy.sources.kubernetes.listing import Page, pages
from uproxy.sources.kubernetes.watch_event import Changed, Removed, WatchEvent, parse_item
from uproxy.sources.kubernetes.watching import TIME_OUT, Asking, Batch, Following, Start, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from uproxy.api_stats import ApiStats
    from uproxy.config import Config
    from uproxy.core.decode import Decoded
    from uproxy.core.state import Event
    from uproxy.log import Log
    from uproxy.pace import Pace
    from uproxy.sources.kubernetes.kinds import Collection
    from uproxy.sources.kubernetes.reachability import Reachability
    from uproxy.sources.kubernetes.refused import RefusedObjects
    from uproxy.sources.kubernetes.store import Relist, Store
    from uproxy.sources.kubernetes.transport import Transport

BAD_REQUEST: Final = 400


class Sink(Protocol):
    """Takes what is different; listed: together with everything before, that is all there is."""

    def __call__(self, events: Sequence[Event], *, listed: bool) -> None:
        """Take it."""


class StreamedLists:
    """Whether the server is asked for streamed lists: not for a while after one came to nothing where pages came."""

    def __init__(self, retry: float, log: Log) -> None:
        self._retry = retry
        self._log = log
        self._not_before = time.monotonic()

    @property
    def wanted(self) -> bool:
        """Whether one is to be asked for."""
        return time.monotonic() >= self._not_before

    def failed(self, error: ApiError) -> None:
        """Take note that a server gave none."""
        if self.wanted:
            self._log.info("listed_in_pages", reason=error)
        self._not_before = time.monotonic() + self._retry


class Shared(NamedTuple):
    """What the reflectors of one source have in common. decoding: held while objects are decoded, so that slices do not add up."""

    transport: Transport
    config: Config
    log: Log
    stats: ApiStats
    random: Random
    reachability: Reachability
    refused: RefusedObjects
    streamed_lists: StreamedLists
    pace: Pace
    decoding: asyncio.Lock


class _Reading:
    """A list while it is read. decoding: seconds that its objects took to decode, without waiting for anything."""

    def __init__(self, relist: Relist) -> None:
        self.relist = relist
        self.newest = Newest()
        self.started = time.monotonic()
        self.decoding = 0.0

    def put(self, item: Changed, found: Decoded) -> None:
        self.relist.put(item.key, found)
        self.newest = self.newest.after(item)

    def delete(self, event: Removed) -> None:
        self.relist.delete(event.key)
        self.newest = self.newest.after(event)


class Reflector:
    """Keeps a store like the API server's collection. The first call of sink with listed ends the first list."""

    def __init__(self, collection: Collection, store: Store, shared: Shared, sink: Sink) -> None:
        self._kind = collection.kind
        self._older = collection.older
        self._store = store
        self._shared = shared
        self._sink = sink
        settings = shared.config.kubernetes
        self._backoff = Backoff(settings, shared.random)
        self._asking = Asking(shared.transport, collection.path, collection.selectors, settings, shared.random)

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                await self._list_and_watch()
            except ApiError as error:
                await self._pause(error)

    async def _list_and_watch(self) -> None:
        """List, then take in what happens. Raises ApiError when only another list helps."""
        start = await self._list()
        following = Following(self._asking, self._backoff, self._restarted, self._lost)
        async with aclosing(following.batches(start)) as batches:
            async for batch in batches:
                self._shared.reachability.found(self._kind)
                if batch:
                    await self._apply(batch)

    async def _pause(self, error: ApiError) -> None:
        """Wait until it makes sense to list again: at once where the server merely forgot our position or fell silent."""
        first = not self._backoff.failures
        seconds = self._backoff.failed(error.retry_after)
        if isinstance(error, Gone | Stalled):
            if first:
                return
        else:
            self._lost(error)
        if error.retry_after:
            await asyncio.sleep(seconds)
        else:
            await self._shared.reachability.pause(seconds)

    def _lost(self, error: ApiError) -> None:
        self._shared.reachability.lost(self._kind, error)

    def _restarted(self, reason: str) -> None:
        self._shared.stats.restarted(self._kind, reason)
        if reason != TIME_OUT:
            self._shared.log.info("watch_restarted", kind=self._kind, reason=reason)

    async def _list(self) -> Start:
        """List everything; give where that ended."""
        try:
            return await self._stream_or_pages()
        except Refused as error:
            if error.code != BAD_REQUEST or self._older is None:
                raise
            self._asking, self._older = self._asking._replace(selectors=self._older), None
            return await self._stream_or_pages()

    async def _stream_or_pages(self) -> Start:
        without_stream: ApiError | None = None
        if self._shared.streamed_lists.wanted:
            watch = Watch.of_everything(self._asking)
            try:
                return await self._read_stream(watch)
            except ApiError as error:
                if not _pages_may_help(error, answered=watch.answered):
                    raise
                without_stream = error
        start = await self._read_pages()
        if without_stream is not None and not isinstance(without_stream, Unreachable):
            self._shared.streamed_lists.failed(without_stream)
        return start

    async def _read_stream(self, watch: Watch) -> Start:
        """Take in a streamed list; give its end mark, after which the watch goes on. Raises ApiError, and has closed the watch then."""
        reading = _Reading(self._store.relist())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(aclosing(watch))
            position = None
            while position is None:
                batch = await self._next_of_list(watch)
                position = await self._take_list_batch(reading, batch, watch)
            stack.pop_all()
        reading.decoding += watch.parsing
        self._finish(reading)
        return Start(position, reading.newest, watch)

    async def _next_of_list(self, watch: Watch) -> Batch:
        """Give a streamed list's next batch. An old etcd's never ends: neither pauses nor all of it may take for ever."""
        settings = self._shared.config.kubernetes
        left = settings.request_timeout - watch.age
        patience = min(left, settings.initial_events_timeout) if watch.answered else left
        try:
            async with asyncio.timeout(patience):
                batch = await anext(watch, None)
        except TimeoutError:
            raise Stalled("the end of a streamed list did not come in time", self._asking.path) from None
        if batch is None:
            raise Garbled("a streamed list ended before its end", self._asking.path)
        return batch

    async def _take_list_batch(self, reading: _Reading, batch: Batch, watch: Watch) -> int | None:
        """Take a batch into a list; give the position when it had the end mark. What is behind that goes back to the watch."""
        self._heard()
        async with self._shared.decoding:
            for index, event in enumerate(batch, start=1):
                if isinstance(event, Changed):
                    self._take_object(reading, event)
                elif isinstance(event, Removed):
                    reading.delete(event)
                elif event.initial_events_end:
                    watch.give_back(batch[index:])
                    return event.resource_version
                await self._shared.pace.turn()
        return None

    async def _read_pages(self) -> Start:
        """List in pages; when they take so long that their moment expires, in one, as client-go does. Raises ApiError."""
        try:
            return await self._read_list(whole=False)
        except Gone:
            return await self._read_list(whole=True)

    async def _read_list(self, *, whole: bool) -> Start:
        transport, path, selectors, settings, _ = self._asking
        reading = _Reading(self._store.relist())
        position: int | None = None
        async with aclosing(pages(transport, path, selectors, settings, whole=whole)) as found:
            async for page in found:
                position = page.resource_version if position is None else position
                await self._take_page(reading, page)
        if position is None:
            raise Garbled("a list has no pages", path)
        self._finish(reading)
        return Start(position, reading.newest)

    async def _take_page(self, reading: _Reading, page: Page) -> None:
        self._heard()
        async with self._shared.decoding:
            for raw in page.items:
                began = time.monotonic()
                item = parse_item(raw, self._asking.path)
                reading.decoding += time.monotonic() - began
                self._take_object(reading, item)
                await self._shared.pace.turn()

    def _take_object(self, reading: _Reading, item: Changed) -> None:
        began = time.monotonic()
        found = self._decode(item)
        reading.decoding += time.monotonic() - began
        reading.put(item, found)

    def _finish(self, reading: _Reading) -> None:
        """Let a list that was read to its end be what is known."""
        shared = self._shared
        shared.reachability.found(self._kind)
        shared.refused.retain(self._kind, reading.relist.present)
        shared.refused.report()
        events = reading.relist.finish()
        shared.log.info(
            "listed",
            kind=self._kind,
            objects=len(self._store.objects),
            different=len(events),
            milliseconds=round(1000 * (time.monotonic() - reading.started)),
            decode_milliseconds=round(1000 * reading.decoding),
        )
        self._sink(events, listed=True)

    async def _apply(self, batch: Batch) -> None:
        """Take in what happened, all of a batch at once."""
        self._heard()
        events: list[Event] = []
        async with self._shared.decoding:
            for event in batch:
                events += self._events_of(event)
                await self._shared.pace.turn()
        self._shared.refused.report()
        if events:
            self._sink(events, listed=False)

    def _events_of(self, event: WatchEvent) -> list[Event]:
        if isinstance(event, Changed):
            return self._store.put(event.key, self._decode(event), event.triggered)
        if isinstance(event, Removed):
            self._shared.refused.forget(self._kind, event.key)
            return self._store.delete(event.key)
        return []

    def _decode(self, item: Changed) -> Decoded:
        found = decode_item(item.raw, self._kind, self._shared.config.service_proxy_name)
        self._shared.refused.note(self._kind, item.key, found)
        return found[0]

    def _heard(self) -> None:
        self._shared.stats.heard(self._kind, time.monotonic())


def _pages_may_help(error: ApiError, *, answered: bool) -> bool:
    """Tell whether a server that failed to stream a list may still give pages: when it is there, and does not ask for a pause."""
    if isinstance(error, TooManyRequests):
        return False
    return answered or isinstance(error, Refused | ServerFailed | Stalled)
