"""An API server as a source of events: its Services, its EndpointSlices and the own Node.

Owns joining the three reflectors, the barrier of each kind (Listed) and how long the own Node is waited for. Must not
know requests nor what follows from events. Invariant: Listed of a kind comes once, with or after everything that its
first list held, or with what was restored.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from uproxy.core.decode import subject_of
from uproxy.core.model import EndpointSlice, Kind, Node, ObjectKey, Service
from uproxy.core.state import Listed, Put
from uproxy.pace import Pace
from uproxy.sources.kubernetes.kinds import collections
from uproxy.sources.kubernetes.reachability import Reachability
from uproxy.sources.kubernetes.reflector import Reflector, Shared, StreamedLists
from uproxy.sources.kubernetes.refused import RefusedObjects
from uproxy.sources.kubernetes.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from uproxy.api_stats import ApiStats
    from uproxy.config import Config
    from uproxy.core.model import KubernetesObject
    from uproxy.core.state import Event
    from uproxy.event_recorder import EventRecorder
    from uproxy.log import Log
    from uproxy.sources.kubernetes.kinds import Collection
    from uproxy.sources.kubernetes.transport import Transport

_KINDS: Final[dict[type[KubernetesObject], Kind]] = {
    Service: Kind.SERVICE,
    EndpointSlice: Kind.ENDPOINT_SLICE,
    Node: Kind.NODE,
}


class KubernetesSource:
    """Follows an API server. config.node_name is the own Node's. Each call of sink holds what came together."""

    def __init__(  # noqa: PLR0917 - the parts that this one joins
        self,
        transport: Transport,
        config: Config,
        log: Log,
        stats: ApiStats,
        recorder: EventRecorder,
        sink: Callable[[Sequence[Event]], None],
    ) -> None:
        self._transport = transport
        self._config = config
        self._log = log
        self._stats = stats
        self._sink = sink
        self._refused = RefusedObjects(log, recorder)
        self._reachability = Reachability(log, config.kubernetes.reason_patience)
        self._stores = {kind: Store(kind) for kind in Kind}
        self._restored: tuple[KubernetesObject, ...] | None = None
        self._told: set[Kind] = set()
        self._listed: set[Kind] = set()
        self._others_listed = asyncio.Event()
        self._node_told = asyncio.Event()

    @property
    def refusals(self) -> Mapping[str, int]:
        """How much was refused since the start, by reason."""
        return self._refused.total

    @property
    def refused(self) -> int:
        """How much is refused now."""
        return self._refused.refused

    def restore(self, objects: Iterable[KubernetesObject]) -> None:
        """Begin run() with these, the last known state, as if they had been listed; lists then tell what is different."""
        self._restored = tuple(objects)
        for kind in Kind:
            self._stores[kind] = Store(kind, (obj for obj in self._restored if _KINDS[type(obj)] is kind))

    async def run(self) -> None:
        """Follow the API server until cancelled, whatever becomes of it."""
        if self._restored is not None:
            self._serve_restored(self._restored)
            self._restored = None
        shared = self._share()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wait_for_node(), name="node-wait")
            for collection in collections(self._config.node_name, self._config.service_proxy_name):
                tasks.create_task(self._reflector(collection, shared).run(), name=f"{collection.kind}-reflector")

    def _share(self) -> Shared:
        return Shared(
            transport=self._transport,
            config=self._config,
            log=self._log,
            stats=self._stats,
            random=random.Random(),
            reachability=self._reachability,
            refused=self._refused,
            streamed_lists=StreamedLists(self._config.kubernetes.initial_events_retry, self._log),
            pace=Pace(self._config.sync.slice),
            decoding=asyncio.Lock(),
        )

    def _reflector(self, collection: Collection, shared: Shared) -> Reflector:
        kind = collection.kind

        def take(events: Sequence[Event], *, listed: bool) -> None:
            self._take(kind, events, listed=listed)

        return Reflector(collection, self._stores[kind], shared, take)

    def _serve_restored(self, objects: Sequence[KubernetesObject]) -> None:
        self._reachability.serving = True
        self._tell([Put(obj) for obj in objects], tuple(Kind))

    def _take(self, kind: Kind, events: Sequence[Event], *, listed: bool) -> None:
        """Pass on what is different, with the barrier when it has come to that."""
        if listed:
            self._note_listed(kind)
        due = kind in self._listed and kind not in self._told and (kind is not Kind.NODE or bool(self._stores[kind].objects))
        self._tell(events, (kind,) if due else ())

    def _note_listed(self, kind: Kind) -> None:
        self._listed.add(kind)
        if self._listed >= {Kind.SERVICE, Kind.ENDPOINT_SLICE}:
            self._others_listed.set()
        if self._listed.issuperset(Kind):
            self._stats.state_restored_from = None
            self._reachability.serving = True

    def _tell(self, events: Sequence[Event], barriers: tuple[Kind, ...]) -> None:
        self._told.update(barriers)
        if Kind.NODE in self._told:
            self._node_told.set()
        batch = [*events, *map(Listed, barriers)]
        if batch:
            self._sink(batch)

    async def _wait_for_node(self) -> None:
        """Serve without the own Node when it does not appear: what depends on it is then taken from this machine alone."""
        await self._others_listed.wait()
        wait = self._config.kubernetes.node_wait
        try:
            async with asyncio.timeout(wait):
                await self._node_told.wait()
        except TimeoutError:
            subject = subject_of(Kind.NODE, ObjectKey("", self._config.node_name))
            remedy = "is that the name of this Node? --node-name says otherwise; it is taken as soon as it appears"
            self._log.warning("node_missing", subject=subject, waited_seconds=wait, remedy=remedy)
            self._tell([], (Kind.NODE,))
