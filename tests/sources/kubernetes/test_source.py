"""Three reflectors as one source: barriers, the own Node, what was restored."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tests.core.documents import Document, slice_document
from tests.core.objects import service as a_service
from tests.core.objects import slice_of
from tests.sources.following import PATIENCE, AnnouncingLog
from tests.sources.kubernetes.reflecting import QUICK, KeptEvents, Told, quick
from tests.sources.kubernetes.replay import SILENCE, Replay, Streamed, gone, refused
from tests.sources.kubernetes.spoken import ENDPOINT_SLICES, NODES, SERVICES, added, deleted, event, initial_events_end, service
from uproxy.api_stats import ApiStats
from uproxy.config_rules import Duration
from uproxy.core.model import EndpointSlice, Kind, Node, ObjectKey, Service
from uproxy.core.state import Delete, Listed, Put, State, fold
from uproxy.sources.kubernetes.source import KubernetesSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.sources.kubernetes.replay import Answer
    from uproxy.config import Config
    from uproxy.core.model import KubernetesObject
    from uproxy.core.state import Event


def node(name: str, version: int, address: str = "192.0.2.1") -> Document:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "resourceVersion": str(version)}, "status": status}


def streamed(*parts: bytes) -> list[Answer]:
    """Make a streamed list that becomes a silent watch."""
    return [Streamed(*parts, initial_events_end(50), SILENCE)]


A_NODE = streamed(added(node("n1", 1)))
A_SERVICE = streamed(added(service("web", 2)))
A_SLICE = streamed(added(slice_document(resourceVersion="3")))


class Sourcing:
    """A source over replayed bytes."""

    def __init__(self, answers: Mapping[str, list[Answer]], config: Config = QUICK) -> None:
        self.replay = Replay(answers)
        self.log = AnnouncingLog()
        self.stats = ApiStats()
        self.told = Told()
        self.state = State()
        self.source = KubernetesSource(self.replay, config, self.log, self.stats, KeptEvents(), self._take)

    def _take(self, events: Sequence[Event]) -> None:
        self.told.take(events)
        self.state, _ = fold(self.state, events)

    @property
    def barriers(self) -> list[Kind]:
        """The barriers told so far."""
        return [each.kind for batch in self.told.batches for each in batch if isinstance(each, Listed)]

    async def until_logged(self, name: str, number: int = 1) -> list[dict[str, object]]:
        """Wait until a fact was logged so many times; give them all."""
        async with asyncio.timeout(PATIENCE):
            while len(self.log.named(name)) < number:
                self.log.news.clear()
                await self.log.news.wait()
        return self.log.named(name)


@asynccontextmanager
async def sourcing(
    services: list[Answer],
    slices: list[Answer],
    nodes: list[Answer],
    config: Config = QUICK,
    restored: Sequence[KubernetesObject] | None = None,
) -> AsyncIterator[Sourcing]:
    """Run a source until the block ends."""
    found = Sourcing({SERVICES: services, ENDPOINT_SLICES: slices, NODES: nodes}, config)
    if restored is not None:
        found.source.restore(restored)
    task = asyncio.create_task(found.source.run())
    try:
        yield found
        assert not task.done(), "a source never ends by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_kind_is_told_with_its_barrier() -> None:
    async with sourcing(A_SERVICE, A_SLICE, A_NODE) as found:
        await found.told.until(lambda: found.state.complete)
        assert sorted(map(len, found.told.batches)) == [2, 2, 2]
        assert all(isinstance(batch[-1], Listed) for batch in found.told.batches)
        assert {type(obj) for obj in found.told.objects.values()} == {Service, EndpointSlice, Node}
        assert found.replay.queries(NODES)[0]["fieldSelector"] == "metadata.name=n1"


async def test_a_kind_that_has_nothing_is_listed_too() -> None:
    async with sourcing(streamed(), streamed(), A_NODE) as found:
        await found.told.until(lambda: found.state.complete)
        assert found.told.batches.count([Listed(Kind.SERVICE)]) == 1


async def test_a_barrier_is_told_once_however_often_a_kind_is_listed() -> None:
    again: list[Answer] = [Streamed(initial_events_end(5)), gone(), *streamed(added(service("late", 7)))]
    async with sourcing(again, A_SLICE, A_NODE) as found:
        await found.told.until(lambda: "late" in found.told.addresses())
        assert sorted(found.barriers) == sorted(Kind)


async def test_nothing_is_complete_while_one_kind_is_not_listed() -> None:
    async with sourcing(A_SERVICE, [SILENCE], A_NODE) as found:
        await found.told.until(lambda: len(found.barriers) == 2)
        await asyncio.sleep(0.05)
        assert not found.state.complete


async def test_the_own_node_is_waited_for() -> None:
    later: list[Answer] = [Streamed(initial_events_end(5), added(node("n1", 6)), SILENCE)]
    async with sourcing(A_SERVICE, A_SLICE, later) as found:
        await found.told.until(lambda: found.state.complete)
        (batch,) = (batch for batch in found.told.batches if Listed(Kind.NODE) in batch)
        assert isinstance(batch[0], Put)
        assert not found.log.named("node_missing")


async def test_a_node_that_does_not_appear_holds_nothing_up_for_ever() -> None:
    async with sourcing(A_SERVICE, A_SLICE, streamed(), quick(node_wait=Duration(0.05))) as found:
        await found.told.until(lambda: found.state.complete)
        assert found.told.batches[-1] == [Listed(Kind.NODE)]
        (said,) = found.log.named("node_missing")
        assert said["subject"] == "Node n1"
        assert "--node-name" in str(said["remedy"])


async def test_nodes_that_may_not_be_listed_hold_nothing_up_for_ever() -> None:
    async with sourcing(A_SERVICE, A_SLICE, [refused()] * 1000, quick(node_wait=Duration(0.05))) as found:
        await found.told.until(lambda: found.state.complete)


async def test_a_node_that_appears_late_is_told_then() -> None:
    appears = asyncio.Event()
    late: list[Answer] = [Streamed(initial_events_end(5), appears, added(node("n1", 6)), SILENCE)]
    async with sourcing(A_SERVICE, A_SLICE, late, quick(node_wait=Duration(0.02))) as found:
        await found.told.until(lambda: found.state.complete)
        assert not found.state.nodes
        appears.set()
        await found.told.until(lambda: bool(found.state.nodes))
        assert sorted(found.barriers) == sorted(Kind)


async def test_the_wait_for_the_node_begins_when_the_rest_is_there() -> None:
    late: list[Answer] = [*[refused()] * 5, *A_SERVICE]
    config = quick(node_wait=Duration(0.05), retry_base=Duration(0.05), retry_limit=Duration(0.06))
    async with sourcing(late, A_SLICE, streamed(), config) as found:
        await found.told.until(lambda: Kind.NODE in found.barriers)
        assert found.barriers[-2:] == [Kind.SERVICE, Kind.NODE]


async def test_what_was_restored_is_served_before_the_server_answers() -> None:
    restored: list[KubernetesObject] = [a_service("web"), slice_of("web-1", "10.0.0.1"), Node("n1", ("192.0.2.1",))]
    nothing: list[Answer] = [SILENCE]
    async with sourcing(nothing, nothing, nothing, restored=restored) as found:
        await found.told.until(lambda: found.state.complete)
        assert found.told.batches == [[*(Put(obj) for obj in restored), *map(Listed, Kind)]]


async def test_lists_tell_what_is_different_from_what_was_restored() -> None:
    kept = Service(ObjectKey("shop", "web"), ("10.96.0.1",), a_service().ports)
    restored: list[KubernetesObject] = [kept, a_service("old"), slice_of("old-1", "10.0.0.1"), Node("n1", ("192.0.2.1",))]
    async with sourcing(A_SERVICE, A_SLICE, A_NODE, restored=restored) as found:
        found.stats.state_restored_from = 1.0
        await found.until_logged("listed", 3)
        assert found.stats.state_restored_from is None
        slices, services = sorted(found.told.batches[1:], key=str)
        assert slices[0] == Delete(Kind.ENDPOINT_SLICE, ObjectKey("default", "old-1"))
        assert services == [Delete(Kind.SERVICE, ObjectKey("default", "old"))]
        assert sorted(found.barriers) == sorted(Kind)


async def test_the_last_known_state_counts_until_every_kind_was_listed() -> None:
    async with sourcing(A_SERVICE, A_SLICE, [SILENCE], restored=[]) as found:
        found.stats.state_restored_from = 1.0
        await found.until_logged("listed", 2)
        assert found.stats.state_restored_from == 1.0


async def test_a_server_that_is_lost_is_one_fact() -> None:
    answers: list[Answer] = [refused()] * 3
    async with sourcing([*answers, *A_SERVICE], [*answers, *A_SLICE], [*answers, *A_NODE]) as found:
        await found.until_logged("api_server_back")
        assert len(found.log.named("api_server_lost")) == 1


async def test_a_node_that_is_deleted_is_told_as_gone() -> None:
    nodes: list[Answer] = [Streamed(added(node("n1", 1)) + initial_events_end(5), deleted(node("n1", 6)), SILENCE)]
    async with sourcing(A_SERVICE, A_SLICE, nodes) as found:
        await found.told.until(lambda: [Delete(Kind.NODE, ObjectKey("", "n1"))] in found.told.batches)
        assert not found.state.nodes


async def test_services_of_a_proxy_name_alone_are_taken() -> None:
    ours, none, other = (
        event("ADDED", service(name, 2, labels=labels))
        for name, labels in (
            ("ours", {"service.kubernetes.io/service-proxy-name": "uproxy"}),
            ("none", {}),
            ("other", {"service.kubernetes.io/service-proxy-name": "another"}),
        )
    )
    config = replace(QUICK, service_proxy_name="uproxy")
    async with sourcing(streamed(ours + none + other), A_SLICE, A_NODE, config) as found:
        await found.told.until(lambda: found.state.complete)
        assert set(found.told.addresses()) == {"ours"}
        assert found.replay.queries(SERVICES)[0]["labelSelector"].startswith("service.kubernetes.io/service-proxy-name=uproxy,")
