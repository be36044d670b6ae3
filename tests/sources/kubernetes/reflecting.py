"""A source or one of its reflectors over replayed bytes, and what the sink was told."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tests.sources.following import PATIENCE, AnnouncingLog
from uproxy.api_stats import ApiStats
from uproxy.config import Config, KubernetesSettings
from uproxy.config_rules import Duration
from uproxy.core.model import Kind, Service
from uproxy.core.state import Delete, Put
from uproxy.pace import Pace
from uproxy.sources.kubernetes.kinds import collections
from uproxy.sources.kubernetes.reachability import Reachability
from uproxy.sources.kubernetes.reflector import Reflector, Shared, StreamedLists
from uproxy.sources.kubernetes.refused import RefusedObjects
from uproxy.sources.kubernetes.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from uproxy.core.model import KubernetesObject, ObjectKey
    from uproxy.core.state import Event
    from uproxy.event_recorder import ClusterEvent
    from uproxy.sources.kubernetes.transport import Transport

QUICK = Config(
    node_name="n1",
    kubernetes=KubernetesSettings(
        retry_base=Duration(0.001),
        retry_limit=Duration(0.01),
        stall_timeout=Duration(5),
        initial_events_timeout=Duration(0.05),
        request_timeout=Duration(5),
        page_size=2,
        reason_patience=Duration(1e-6),
    ),
)
"""Pauses so short that a test sees what comes after them."""


def quick(**settings: object) -> Config:
    """Give QUICK with other settings of its Kubernetes group."""
    return replace(QUICK, kubernetes=replace(QUICK.kubernetes, **settings))


class KeptEvents:
    """An EventRecorder that keeps what it is told."""

    def __init__(self) -> None:
        self.kept: list[ClusterEvent] = []

    def record(self, event: ClusterEvent) -> None:
        """Keep it."""
        self.kept.append(event)


class Told:
    """What a sink was told. objects: what is known from it. Whatever is told must be different from what is known."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Event]] = []
        self.objects: dict[tuple[Kind, ObjectKey], KubernetesObject] = {}
        self._news = asyncio.Event()

    def take(self, events: Sequence[Event]) -> None:
        """Be the sink."""
        assert events
        self.batches.append(events)
        for event in events:
            if isinstance(event, Put):
                known = (Kind(type(event.obj).__name__), event.obj.key)
                assert self.objects.get(known) != event.obj, "nothing that is known is told again"
                self.objects[known] = event.obj
            elif isinstance(event, Delete):
                del self.objects[event.kind, event.key]
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, looking at each batch."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def addresses(self) -> dict[str, str]:
        """Give the Services' addresses by name."""
        return {key.name: obj.cluster_ips[0] for (_, key), obj in self.objects.items() if isinstance(obj, Service)}


class Counted(Told):
    """The same in no time: it only counts."""

    number = 0

    def take(self, events: Sequence[Event]) -> None:
        """Be the sink."""
        self.number += len(events)
        self._news.set()


class Reflection:
    """The Services' reflector with all that it needs. lists: how many lists have ended."""

    def __init__(self, transport: Transport, config: Config = QUICK, *, streamed: bool = False, seed: Sequence[Service] = ()) -> None:
        self.log = AnnouncingLog()
        self.stats = ApiStats()
        self.told = Told()
        self.lists = 0
        self.refused = RefusedObjects(self.log, KeptEvents())
        self.store = Store(Kind.SERVICE, seed)
        self.told.objects = {(Kind.SERVICE, obj.key): obj for obj in seed}
        self.streamed_lists = StreamedLists(0 if streamed else 3600, self.log)
        if not streamed:
            self.streamed_lists._not_before = float("inf")
        shared = Shared(
            transport=transport,
            config=config,
            log=self.log,
            stats=self.stats,
            random=Random(1),
            reachability=Reachability(self.log, config.kubernetes.reason_patience),
            refused=self.refused,
            streamed_lists=self.streamed_lists,
            pace=Pace(config.sync.slice),
            decoding=asyncio.Lock(),
        )
        self.reflector = Reflector(collections("n1", config.service_proxy_name)[0], self.store, shared, self._take)

    def _take(self, events: Sequence[Event], *, listed: bool) -> None:
        self.lists += listed
        if events:
            self.told.take(events)
        elif not listed:
            raise AssertionError("an empty batch")
        self.told._news.set()

    async def until_logged(self, event: str, number: int = 1) -> list[dict[str, object]]:
        """Wait until a fact was logged so many times; give them all."""
        async with asyncio.timeout(PATIENCE):
            while len(self.log.named(event)) < number:
                self.log.news.clear()
                await self.log.news.wait()
        return self.log.named(event)


@asynccontextmanager
async def reflecting(reflection: Reflection) -> AsyncIterator[Reflection]:
    """Run a reflector until the block ends."""
    task = asyncio.create_task(reflection.reflector.run())
    try:
        yield reflection
        assert not task.done(), "a reflector never ends by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def feeling_pauses() -> AsyncIterator[list[float]]:
    """Measure how long the loop is held, in CPU seconds; garbage collection, which the product tunes as a whole, left out."""
    pauses: list[float] = []

    async def feel() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            pauses.append(time.thread_time() - before)

    gc.disable()
    task = asyncio.create_task(feel())
    try:
        yield pauses
    finally:
        task.cancel()
        gc.enable()
