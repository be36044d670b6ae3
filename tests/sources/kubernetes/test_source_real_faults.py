"""The source while its API server is restarted, hangs, forgets and goes back in time; after each, a fresh list says the same."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.cluster import kubeconfigs
from tests.cluster.certificates import NODE_PROXIER
from tests.cluster.control_plane import STATIC_TOKENS, ControlPlane
from tests.cluster.fixtures import require_binaries
from tests.cluster.objects import service
from tests.sources.kubernetes.live import live, settings
from tests.sources.kubernetes.spoken import SERVICES
from uproxy.config_rules import Duration
from uproxy.core.model import Kind
from uproxy.core.state import Put
from uproxy.sources.kubernetes.api_errors import Gone
from uproxy.sources.kubernetes.listing import pages
from uproxy.sources.kubernetes.watching import Asking, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sources.kubernetes.live import Live

pytestmark = pytest.mark.slow
HASTY = settings(stall_timeout=Duration(1), request_timeout=Duration(1), connect_timeout=Duration(1))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give a control plane that these tests may break; each leaves it running."""
    require_binaries()
    with ControlPlane(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture
def space(plane: ControlPlane) -> Iterator[str]:
    """Give a namespace with one Service."""
    with plane.admin.namespace("space-") as name:
        plane.admin.create(service(name, "web", {"http": 80}))
        yield name


async def assert_follows(found: Live, space: str, name: str = "marker") -> None:
    """Make sure that what was told is what there is, and that what happens now is told."""
    found.plane.admin.create(service(space, name, {"http": 80}))
    await found.until(lambda: name in found.services(space))
    await found.until_fresh()


async def test_a_server_that_is_restarted_is_lost_and_back_and_nothing_is_told_that_did_not_change(plane: ControlPlane, space: str) -> None:
    async with live(plane) as found:
        before = len(found.told.batches)
        await asyncio.to_thread(plane.restart)
        await found.until_logged("api_server_back")
        await assert_follows(found, space)
        told = [event for batch in found.told.batches[before:] for event in batch if isinstance(event, Put)]
        assert {put.obj.key.name for put in told} == {"marker"}
        assert len(found.log.named("api_server_lost")) == len(found.log.named("api_server_back")) == 1


async def test_what_changes_while_the_server_cannot_be_reached_is_told_afterwards(plane: ControlPlane, space: str) -> None:
    credentials = kubeconfigs.with_token(STATIC_TOKENS[NODE_PROXIER])
    with plane.relay() as relay:
        async with live(plane, credentials=credentials, server=relay.url) as found:
            relay.refuse()
            relay.cut(reset=True)
            await found.until_logged("api_server_lost")
            plane.admin.delete("Service", "web", space)
            plane.admin.create(service(space, "new", {"http": 80}))
            assert set(found.services(space)) == {"web"}
            relay.accept()
            await found.until(lambda: set(found.services(space)) == {"new"})
            await assert_follows(found, space)


async def test_a_watch_that_is_cut_goes_on_where_it_was_without_a_list(plane: ControlPlane, space: str) -> None:
    credentials = kubeconfigs.with_token(STATIC_TOKENS[NODE_PROXIER])
    with plane.relay() as relay:
        async with live(plane, credentials=credentials, server=relay.url) as found:
            plane.admin.patch("Service", "web", {"spec": {"sessionAffinity": "ClientIP"}}, space)
            await found.until(lambda: found.services(space)["web"].affinity_seconds is not None)
            relay.cut(reset=True)
            plane.admin.create(service(space, "new", {"http": 80}))
            await found.until(lambda: "new" in found.services(space))
            lists = [fact for fact in found.log.named("listed") if fact["kind"] == Kind.SERVICE]
            assert len(lists) == 1
            assert not found.log.named("api_server_lost")
            assert "resourceVersion" in found.queries(SERVICES)[-1]
            await assert_follows(found, space)


async def test_a_server_that_hangs_is_given_up_and_taken_again(plane: ControlPlane, space: str) -> None:
    async with live(plane, HASTY) as found:
        with plane.paused():
            await found.until_logged("api_server_lost")
            assert "web" in found.services(space)
            assert found.stats.restarts[Kind.SERVICE, "stalled"] >= 1
        await found.until_logged("api_server_back")
        await assert_follows(found, space)


async def test_a_history_that_was_compacted_is_gone_for_watches_and_pages_alike(plane: ControlPlane, space: str) -> None:
    plane.admin.create(service(space, "second", {"http": 80}))
    async with live(plane) as found:
        small = settings(page_size=1).kubernetes
        listing = pages(found.api, SERVICES, {}, small)
        first = await anext(listing)
        plane.admin.create(service(space, "third", {"http": 80}))
        await asyncio.to_thread(plane.compact)
        with pytest.raises(Gone):
            await anext(listing)
        watch = Watch.after(first.resource_version, Asking(found.api, SERVICES, {}, small, Random(1)))
        with pytest.raises(Gone):
            async for _ in watch:
                pass
        await watch.aclose()
        await assert_follows(found, space)


async def test_a_server_that_was_restored_from_a_backup_is_followed_back(plane: ControlPlane, space: str) -> None:
    backup = await asyncio.to_thread(plane.snapshot)
    async with live(plane) as found:
        plane.admin.patch("Service", "web", {"spec": {"sessionAffinity": "ClientIP"}}, space)
        for number in range(20):
            plane.admin.create(service(space, f"undone-{number}", {"http": 80}))
        await found.until(lambda: len(found.services(space)) == 21)
        await asyncio.to_thread(plane.restore, backup)
        await found.until(lambda: set(found.services(space)) == {"web"})
        assert found.services(space)["web"].affinity_seconds is None
        await assert_follows(found, space)


async def test_a_watch_ends_when_its_time_is_over_and_the_next_one_begins_there(plane: ControlPlane, space: str) -> None:
    async with live(plane, settings(watch_timeout=Duration(1))) as found:
        while (Kind.SERVICE, "timeout") not in found.stats.restarts:
            await assert_follows(found, space, f"marker-{len(found.services(space))}")
        assert not found.log.named("watch_restarted")
        assert len([fact for fact in found.log.named("listed") if fact["kind"] == Kind.SERVICE]) == 1
        await assert_follows(found, space, "last")
