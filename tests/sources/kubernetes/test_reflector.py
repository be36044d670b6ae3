"""One kind's lists and watches over replayed bytes: what the sink is told, what is asked for next, what is said."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.core.objects import HTTP
from tests.sources.kubernetes.reflecting import QUICK, Counted, Reflection, feeling_pauses, quick, reflecting
from tests.sources.kubernetes.replay import SILENCE, Replay, Streamed, cut, gone, refused, too_many, unavailable
from tests.sources.kubernetes.spoken import (
    SERVICES,
    added,
    bookmark,
    deleted,
    error,
    initial_events_end,
    listed,
    modified,
    service,
)
from uproxy.config_rules import Duration
from uproxy.core.model import Kind, ObjectKey, Service
from uproxy.core.state import Delete, Put
from uproxy.sources.kubernetes.api_errors import Forbidden, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sources.kubernetes.replay import Answer, Query
    from uproxy.config import Config

LIST_OF_A = listed(service("a", 3), version=5)
QUIET = Streamed(SILENCE)
SHOPS_SERVICES = "/api/v1/namespaces/shop/services"


def replaying(
    *answers: Answer, config: Config = QUICK, streamed: bool = False, seed: tuple[Service, ...] = ()
) -> tuple[Replay, Reflection]:
    replay = Replay({SERVICES: list(answers)}, {SHOPS_SERVICES: SERVICES})
    return replay, Reflection(replay, config, streamed=streamed, seed=seed)


def kinds_of(replay: Replay) -> list[str]:
    """Tell what was asked for, in a word each."""
    words = {"sendInitialEvents": "stream", "watch": "watch", "continue": "page", "limit": "list"}
    return ["newest" if path == SHOPS_SERVICES else _word(query, words) for path, query in replay.asked]


def _word(query: Query, words: Mapping[str, str]) -> str:
    return next((word for key, word in words.items() if key in query), "whole")


def a_service(name: str, address: str = "10.96.0.1") -> Service:
    """Make what is decoded from spoken.service()."""
    return Service(ObjectKey("shop", name), (address,), (HTTP,))


async def test_a_list_then_what_changes() -> None:
    changes = added(service("b", 6)) + modified(service("a", 7, "10.96.0.9"))
    replay, reflection = replaying(LIST_OF_A, Streamed(changes, deleted(service("b", 8)), SILENCE))
    async with reflecting(reflection) as found:
        await found.told.until(lambda: len(found.told.batches) == 3)
        assert found.told.batches == [
            [Put(a_service("a"))],
            [Put(a_service("b")), Put(a_service("a", "10.96.0.9"))],
            [Delete(Kind.SERVICE, ObjectKey("shop", "b"))],
        ]
        assert kinds_of(replay) == ["list", "watch"]
        assert replay.queries(SERVICES)[1]["resourceVersion"] == "5"
        (logged,) = found.log.named("listed")
        assert logged.items() >= {"kind": Kind.SERVICE, "objects": 1, "different": 1}.items()
        assert found.stats.last_event[Kind.SERVICE] == pytest.approx(time.monotonic(), abs=5)


async def test_a_list_is_told_when_its_last_page_is_there() -> None:
    page = listed(service("a", 1), service("b", 2), version=9, more="t")
    _, reflection = replaying(page, SILENCE)
    async with reflecting(reflection) as found:
        await asyncio.sleep(0.05)
        assert not found.lists
        assert not found.told.batches
    _, reflection = replaying(page, listed(service("c", 3), version=9), QUIET)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
        assert len(found.told.batches) == 1
        assert set(found.told.addresses()) == {"a", "b", "c"}


async def test_a_token_that_expired_between_pages_leads_to_one_whole_list() -> None:
    replay, reflection = replaying(listed(service("a", 1), version=9, more="t"), gone(), listed(service("b", 2), version=12), QUIET)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
        assert set(found.told.addresses()) == {"b"}
        await replay.asked_for(4)
        assert kinds_of(replay) == ["list", "page", "whole", "watch"]
        assert replay.queries(SERVICES)[3]["resourceVersion"] == "12"


async def test_an_empty_list_is_a_list() -> None:
    _, reflection = replaying(listed(version=5), QUIET)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
        assert not found.told.batches


async def test_what_was_restored_is_not_told_again() -> None:
    seed = (a_service("a"), a_service("b"))
    _, reflection = replaying(LIST_OF_A, QUIET, seed=seed)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
        assert found.told.batches == [[Delete(Kind.SERVICE, ObjectKey("shop", "b"))]]


async def test_a_new_list_tells_differences_alone() -> None:
    again = listed(service("a", 3), service("b", 20), version=30)
    replay, reflection = replaying(LIST_OF_A, Streamed(error(410, "Expired")), again, QUIET)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 2)
        assert found.told.batches == [[Put(a_service("a"))], [Put(a_service("b"))]]
        assert kinds_of(replay)[:3] == ["list", "watch", "list"]
        assert found.stats.restarts == {(Kind.SERVICE, "gone"): 1}
        assert found.log.named("watch_restarted") == [{"kind": Kind.SERVICE, "reason": "gone"}]
        assert not found.log.named("api_server_lost")


async def test_an_object_that_vanished_between_list_and_watch_vanishes() -> None:
    _, reflection = replaying(LIST_OF_A, Streamed(deleted(service("a", 6)), SILENCE))
    async with reflecting(reflection) as found:
        await found.told.until(lambda: len(found.told.batches) == 2)
        assert not found.told.objects


async def test_deletions_of_what_is_not_known_are_passed_over() -> None:
    _, reflection = replaying(LIST_OF_A, Streamed(deleted(service("x", 6)) + added(service("b", 7)), SILENCE))
    async with reflecting(reflection) as found:
        await found.told.until(lambda: len(found.told.batches) == 2)
        assert found.told.batches[1] == [Put(a_service("b"))]


async def test_an_object_that_is_not_to_be_served_any_more_is_deleted() -> None:
    headless = service("a", 6)
    headless["spec"]["clusterIP"] = "None"
    _, reflection = replaying(LIST_OF_A, Streamed(modified(headless), SILENCE))
    async with reflecting(reflection) as found:
        await found.told.until(lambda: len(found.told.batches) == 2)
        assert found.told.batches[1] == [Delete(Kind.SERVICE, ObjectKey("shop", "a"))]


async def test_a_refused_object_keeps_its_previous_version_through_watches_and_lists() -> None:
    broken, also_broken = service("a", 6), service("c", 7)
    broken["spec"]["type"] = also_broken["spec"]["type"] = "Nonsense"
    again = listed(broken, also_broken, version=20)
    _, reflection = replaying(LIST_OF_A, Streamed(modified(broken) + added(also_broken), error(410, "Gone")), again, QUIET)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 2)
        assert found.told.batches == [[Put(a_service("a"))]]
        assert [fact["subject"] for fact in found.log.named("object_refused")] == ["Service shop/a", "Service shop/c"]
        assert found.refused.total == {"object": 2, "field": 0}
        assert found.refused.refused == 2


async def test_an_object_that_is_right_again_or_gone_is_refused_no_more() -> None:
    broken, also_broken = service("a", 4), service("c", 5)
    broken["spec"]["type"] = also_broken["spec"]["type"] = "Nonsense"
    events = modified(service("a", 6)) + deleted(service("c", 7))
    _, reflection = replaying(listed(broken, also_broken, version=5), Streamed(events, SILENCE))
    async with reflecting(reflection) as found:
        await found.told.until(lambda: bool(found.told.batches))
        assert found.refused.refused == 0
        assert found.refused.total == {"object": 2, "field": 0}


async def test_a_list_forgets_refusals_of_what_it_does_not_hold() -> None:
    broken = service("c", 5)
    broken["spec"]["type"] = "Nonsense"
    _, reflection = replaying(listed(broken, version=5), Streamed(error(410, "Gone")), LIST_OF_A, QUIET)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 2)
        assert found.refused.refused == 0


async def test_of_many_refusals_a_few_are_logged_and_the_rest_counted() -> None:
    broken = [service(f"s{number}", number) for number in range(1, 101)]
    for document in broken:
        document["spec"]["type"] = "Nonsense"
    _, reflection = replaying(listed(*broken, version=200), QUIET)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
        assert len(found.log.named("object_refused")) == 20
        assert found.log.named("object_refused_more") == [{"number": 80}]
        assert found.refused.total["object"] == 100


async def test_a_streamed_list_becomes_the_watch() -> None:
    stream = Streamed(
        added(service("a", 3)) + added(service("b", 2)),
        added(service("gone", 4)) + deleted(service("gone", 8)) + initial_events_end(8) + added(service("c", 9)),
        deleted(service("a", 10)),
        SILENCE,
    )
    replay, reflection = replaying(stream, streamed=True)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: len(found.told.batches) == 3)
        assert found.told.batches == [
            [Put(a_service("a")), Put(a_service("b"))],
            [Put(a_service("c"))],
            [Delete(Kind.SERVICE, ObjectKey("shop", "a"))],
        ]
        assert kinds_of(replay) == ["stream"]
        assert found.lists >= 1


async def test_a_streamed_list_that_became_the_watch_is_resumed_after_its_last_event() -> None:
    stream = Streamed(added(service("a", 3)) + initial_events_end(8) + added(service("b", 9)), cut())
    replay, reflection = replaying(stream, listed(service("b", 9), version=9), Streamed(added(service("c", 10)), SILENCE), streamed=True)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: set(found.told.addresses()) == {"a", "b", "c"})
        assert kinds_of(replay) == ["stream", "newest", "watch"]
        assert replay.queries(SERVICES)[1]["resourceVersion"] == "9"
        assert found.lists >= 1


@pytest.mark.parametrize(
    "answer",
    [
        Refused("422 Unprocessable Entity", "the replay", reason="invalid"),
        unavailable(),
        Streamed(error(500, "InternalError", "a watch stream was requested but the storage feature is disabled")),
        Streamed(added(service("x", 1)), SILENCE),
        Streamed(SILENCE),
        SILENCE,
        Streamed(added(service("x", 1))),
        Streamed(b"garbage\n"),
    ],
    ids=["refused", "503", "error event", "no end mark", "silence", "no answer", "ended", "garbled"],
)
async def test_where_no_streamed_list_comes_pages_do_and_are_asked_for_from_then_on(answer: Answer) -> None:
    config = quick(request_timeout=Duration(0.3))
    replay, reflection = replaying(answer, LIST_OF_A, Streamed(error(410, "Gone")), LIST_OF_A, QUIET, config=config, streamed=True)
    reflection.streamed_lists._retry = 3600
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 2)
        assert set(found.told.addresses()) == {"a"}
        assert kinds_of(replay)[:4] == ["stream", "list", "watch", "list"]
        assert len(found.log.named("listed_in_pages")) == 1
        assert replay.open_streams <= 1


async def test_streamed_lists_are_asked_for_again_after_a_while() -> None:
    no_stream = Streamed(error(500, "InternalError"))
    replay, reflection = replaying(no_stream, LIST_OF_A, Streamed(error(410, "Gone")), no_stream, LIST_OF_A, QUIET, streamed=True)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 2)
        assert kinds_of(replay)[:5] == ["stream", "list", "watch", "stream", "list"]


async def test_a_streamed_list_that_never_ends_but_goes_on_and_on_is_given_up() -> None:
    class Endless(Replay):
        async def _parts(self, answer: Streamed, stall: float):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as the replay's
            if answer is not endless:
                async for part in super()._parts(answer, stall):
                    yield part
            version = 0
            while True:
                version += 1
                yield modified(service("x", version))
                await asyncio.sleep(0.01)

    endless = Streamed()
    replay = Endless({SERVICES: [endless, LIST_OF_A, QUIET]})
    async with reflecting(Reflection(replay, quick(request_timeout=Duration(0.2)), streamed=True)) as found:
        await found.told.until(lambda: found.lists >= 1)
        assert set(found.told.addresses()) == {"a"}


async def test_a_streamed_list_that_was_cut_is_not_held_against_the_server() -> None:
    replay, reflection = replaying(Streamed(added(service("x", 1)), cut()), LIST_OF_A, QUIET, streamed=True)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
        assert kinds_of(replay)[:2] == ["stream", "list"]
        assert found.streamed_lists.wanted


@pytest.mark.parametrize("error", [refused(), Forbidden("403 Forbidden", "the replay"), too_many()], ids=["refused", "403", "429"])
async def test_a_server_that_cannot_be_had_is_not_asked_for_pages_instead(error: Answer) -> None:
    replay, reflection = replaying(error, error, Streamed(initial_events_end(5), SILENCE), streamed=True)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
        assert kinds_of(replay) == ["stream", "stream", "stream"]


async def test_a_server_that_does_not_know_the_field_is_asked_without_it() -> None:
    unknown = Refused("400 Bad Request (field label not supported: spec.clusterIP)", "the replay", reason="bad_request")
    unknown.code = 400
    replay, reflection = replaying(unknown, LIST_OF_A, Streamed(error(410, "Gone")), LIST_OF_A, QUIET)
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 2)
        assert ["fieldSelector" in query for query in replay.queries(SERVICES)[:4]] == [True, False, False, False]
        assert all("labelSelector" in query for query in replay.queries(SERVICES))
        assert not found.log.named("api_server_lost")


async def test_a_server_that_cannot_be_had_is_told_of_once_and_so_is_its_return() -> None:
    _, reflection = replaying(*[refused()] * 20, LIST_OF_A, QUIET)
    async with reflecting(reflection) as found:
        await found.until_logged("api_server_back")
        (lost,) = found.log.named("api_server_lost")
        assert "connection refused" in str(lost["reason"])
        assert "nothing" in str(lost["kept"])
        (back,) = found.log.named("api_server_back")
        assert isinstance(back["seconds"], float)
        assert found.lists >= 1


async def test_each_further_reason_that_lasts_is_told_while_the_server_is_lost() -> None:
    forbidden = [Forbidden("403", "x"), Forbidden("403", "x")]
    _, reflection = replaying(refused(), unavailable(), unavailable(), refused(), refused(), *forbidden, LIST_OF_A, QUIET)
    async with reflecting(reflection) as found:
        await found.until_logged("api_server_back")
        assert len(found.log.named("api_server_lost")) == 3


async def test_what_was_served_stays_while_the_server_is_away() -> None:
    _, reflection = replaying(LIST_OF_A, Streamed(cut()), *[refused()] * 10, SILENCE)
    async with reflecting(reflection) as found:
        await found.until_logged("api_server_lost")
        assert set(found.told.addresses()) == {"a"}
        assert len(found.told.batches) == 1


async def test_pauses_grow_while_nothing_works_and_begin_anew_when_it_does() -> None:
    settings = quick(retry_base=Duration(0.02), retry_limit=Duration(10))
    progress = Streamed(bookmark(7), error(410, "Gone"))
    _, reflection = replaying(*[refused()] * 4, LIST_OF_A, progress, LIST_OF_A, QUIET, config=settings)
    clock = asyncio.get_running_loop().time
    started = clock()
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
        before = clock()
        assert before - started >= 0.5 * (0.02 + 0.04 + 0.08 + 0.16)
        await found.told.until(lambda: found.lists >= 2)
        assert clock() - before < 0.16


async def test_lists_that_expire_at_once_again_and_again_do_not_go_round_in_circles() -> None:
    settings = quick(retry_base=Duration(0.02), retry_limit=Duration(10))
    expired: list[Answer] = [LIST_OF_A, Streamed(error(410, "Gone"))]
    _, reflection = replaying(*expired * 4, LIST_OF_A, QUIET, config=settings)
    clock = asyncio.get_running_loop().time
    started = clock()
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 5)
        assert clock() - started >= 0.5 * (0.04 + 0.08 + 0.16)


async def test_a_silent_watch_leads_to_a_new_list_at_once() -> None:
    again = listed(service("b", 6), version=8)
    replay, reflection = replaying(LIST_OF_A, QUIET, again, QUIET, config=quick(stall_timeout=Duration(0.05)))
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 2)
        assert set(found.told.addresses()) == {"b"}
        assert kinds_of(replay)[:3] == ["list", "watch", "list"]
        assert found.stats.restarts == {(Kind.SERVICE, "stalled"): 1}


async def test_a_server_restored_from_a_backup_is_listed_anew_from_its_own_versions() -> None:
    replay, reflection = replaying(
        listed(service("a", 90), service("b", 95), version=100),
        Streamed(bookmark(120), cut()),
        listed(service("b", 40), version=50),
        listed(service("a", 40, "10.96.0.7"), version=51),
        Streamed(added(service("c", 52)), SILENCE),
    )
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.told.addresses() == {"a": "10.96.0.7", "c": "10.96.0.1"})
        await replay.asked_for(5)
        assert replay.queries(SERVICES)[3]["resourceVersion"] == "51"


async def test_a_server_with_another_history_is_listed_anew_even_when_it_is_further_than_before() -> None:
    replay, reflection = replaying(
        listed(service("a", 90), service("b", 95), version=100),
        Streamed(modified(service("a", 101, "10.96.0.7")), cut()),
        listed(service("a", 90), version=500),
        listed(service("a", 90), service("b", 499, "10.96.0.8"), version=500),
        QUIET,
    )
    async with reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 2)
        assert found.told.addresses() == {"a": "10.96.0.1", "b": "10.96.0.8"}
        assert kinds_of(replay)[:4] == ["list", "watch", "newest", "list"]
        assert not found.log.named("api_server_lost")


async def test_the_trigger_time_is_told_with_changes_alone() -> None:
    trigger = {"annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"}}
    events = modified({**service("a", 6, "10.96.0.2"), "metadata": {**service("a", 6)["metadata"], **trigger}})
    before = {**service("a", 3), "metadata": {**service("a", 3)["metadata"], **trigger}}
    _, reflection = replaying(listed(before, version=5), Streamed(events, SILENCE))
    async with reflecting(reflection) as found:
        await found.told.until(lambda: len(found.told.batches) == 2)
        assert [event.triggered for batch in found.told.batches for event in batch if isinstance(event, Put)] == [0, 1767323045.0]


async def test_a_long_list_never_holds_the_loop_for_long() -> None:
    half = [service(f"s{number}", number + 1) for number in range(5000)]
    rest = [service(f"t{number}", number + 1) for number in range(5000)]
    _, reflection = replaying(listed(*half, version=9000, more="t"), listed(*rest, version=9000), QUIET)
    reflection.told = told = Counted()
    async with feeling_pauses() as pauses, reflecting(reflection) as found:
        await found.told.until(lambda: found.lists >= 1)
    assert told.number == 10_000
    assert len(pauses) > 10
    assert max(pauses) < 0.03, "a slice is 10 ms; what cannot be sliced, splitting a page and the end of the list, takes 2 ms"
