"""Watches that break in every way: what is resumed, what is not, and that nothing is left out."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.sources.kubernetes.replay import SILENCE, Replay, Streamed, cut, gone, refused, too_many, unavailable
from tests.sources.kubernetes.spoken import SERVICES, added, bookmark, deleted, error, listed, modified, service
from uproxy.config import KubernetesSettings
from uproxy.config_rules import Duration
from uproxy.core.model import ObjectKey
from uproxy.sources.kubernetes.api_errors import ApiError, Garbled, Gone, Stalled, Unreachable
from uproxy.sources.kubernetes.backoff import Backoff
from uproxy.sources.kubernetes.history import Newest
from uproxy.sources.kubernetes.watching import Asking, Following, Start, Watch

if TYPE_CHECKING:
    from tests.sources.kubernetes.replay import Answer

SETTINGS = KubernetesSettings(
    retry_base=Duration(0.001), retry_limit=Duration(5), stall_timeout=Duration(0.02), request_timeout=Duration(5), max_line_bytes=65536
)
KEY = ObjectKey("shop", "a")
SHOPS_SERVICES = "/api/v1/namespaces/shop/services"


def at(version: int, known: int | None = None) -> bytes:
    """Make the answer of a server that is at a version, and knows what changed last: Service shop/a, in that version or another one."""
    return listed(service("a", known or version), version=version)


class Followed:
    """What came of following a replay from version 5 on: versions by batch, restarts, errors that paused, the end."""

    def __init__(self, *answers: Answer, settings: KubernetesSettings = SETTINGS) -> None:
        self.replay = Replay({SERVICES: list(answers)}, {SHOPS_SERVICES: SERVICES})
        self.batches: list[list[int]] = []
        self.restarts: list[str] = []
        self.lost: list[ApiError] = []
        self.end: ApiError | None = None
        self.backoff = Backoff(settings, Random(1))
        self.asking = Asking(self.replay, SERVICES, {"labelSelector": "!a"}, settings, Random(1))

    async def run(self, watch: Watch | None = None) -> Followed:
        """Follow until the answers or the watches are at an end."""
        reading = asyncio.create_task(self._read(watch))
        waiting = asyncio.create_task(self.replay.exhausted.wait())
        async with asyncio.timeout(10):
            await asyncio.wait([reading, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, waiting):
            task.cancel()
        await asyncio.gather(reading, waiting, return_exceptions=True)
        assert not self.replay.open_streams
        return self

    async def _read(self, watch: Watch | None) -> None:
        following = Following(self.asking, self.backoff, self.restarts.append, self.lost.append)
        try:
            async with aclosing(following.batches(Start(5, Newest(5, KEY), watch))) as batches:
                async for batch in batches:
                    self.batches.append([event.resource_version for event in batch])
        except ApiError as caught:
            self.end = caught

    @property
    def versions(self) -> list[int]:
        """All events' versions."""
        return [version for batch in self.batches for version in batch]

    @property
    def positions(self) -> list[str]:
        """From where watches were asked for."""
        return [query["resourceVersion"] for query in self.replay.queries(SERVICES) if "watch" in query]


async def follow(*answers: Answer) -> Followed:
    return await Followed(*answers).run()


def three(first: int) -> bytes:
    """Make three events, of which Service shop/a is the last."""
    return added(service("b", first)) + deleted(service("b", first + 1)) + modified(service("a", first + 2))


async def test_a_watch_asks_for_bookmarks_and_for_an_end_after_one_to_two_watch_timeouts() -> None:
    found = await follow()
    (query,) = found.replay.queries(SERVICES)
    seconds = int(query.pop("timeoutSeconds"))
    assert query == {"labelSelector": "!a", "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "5"}
    assert 300 <= seconds <= 600
    spread = {Watch.after(5, found.asking)._query["timeoutSeconds"] for _ in range(100)}
    assert len(spread) > 50


async def test_the_first_batch_says_that_the_request_was_answered() -> None:
    found = await follow(Streamed(SILENCE))
    assert found.batches == [[]]


async def test_what_comes_in_one_chunk_is_one_batch() -> None:
    found = await follow(Streamed(three(6), three(10) + three(20), SILENCE))
    assert found.batches == [[], [6, 7, 8], [10, 11, 12, 20, 21, 22]]


async def test_events_may_come_in_pieces() -> None:
    stream = three(6)
    found = await follow(Streamed(*(stream[place : place + 1] for place in range(len(stream))), SILENCE))
    assert found.batches == [[], [6], [7], [8]]


async def test_at_the_usual_end_the_next_watch_begins_at_the_last_version() -> None:
    settings = KubernetesSettings(watch_timeout=Duration(0.5), stall_timeout=Duration(1))  # one second, the least that can be asked for
    first = Followed(Streamed(three(6), bookmark(30)), Streamed(), settings=settings)
    watch = Watch.after(5, first.asking)
    watch._started -= 1
    await first.run(watch)
    assert first.restarts[0] == "timeout"
    assert first.positions[:2] == ["5", "30"]
    assert "watch" in first.replay.asked[1][1], "a usual end raises no doubts"


async def test_a_cut_watch_is_resumed_at_once_after_the_last_whole_event() -> None:
    half = added(service("b", 9))
    found = await follow(Streamed(three(6) + half[:20], cut()), at(8), Streamed(half, SILENCE))
    assert found.versions == [6, 7, 8, 9]
    assert found.positions == ["5", "8"]
    assert found.restarts == ["cut", "stalled"]
    assert not found.lost


async def test_a_watch_that_is_closed_early_is_resumed() -> None:
    found = await follow(Streamed(three(6)), at(8), Streamed(SILENCE))
    assert (found.positions, found.restarts) == (["5", "8"], ["closed", "stalled"])


@pytest.mark.parametrize(
    "garbage",
    [b'{"type":"ADDED","object":{"meta\n', b"\x00\xff\n", b"<html></html>\n", b"x" * 70_000, added(service("b", 9))[:30]],
    ids=["half an object", "binary", "markup", "a line without end", "half a line"],
)
async def test_after_garbage_the_watch_is_resumed_after_the_last_good_event(garbage: bytes) -> None:
    found = await follow(Streamed(three(6) + garbage), at(8), Streamed(added(service("b", 9)), SILENCE))
    assert found.versions == [6, 7, 8, 9]
    assert found.restarts == ["garbled", "stalled"]


async def test_a_line_of_megabytes_is_an_event_like_any_other() -> None:
    settings = KubernetesSettings(stall_timeout=Duration(0.02), max_line_bytes=2**24)
    line = added(service("a", 6, annotations={"much": "x" * 4 * 2**20}))
    chunks = [line[place : place + 65536] for place in range(0, len(line), 65536)]
    found = await Followed(Streamed(*chunks, SILENCE), settings=settings).run()
    assert found.batches == [[], [6]]


async def test_a_position_that_the_server_has_not_reached_is_recognised_before_the_watch_is_resumed() -> None:
    found = await follow(Streamed(three(6), cut()), at(7))
    assert isinstance(found.end, Gone)
    assert "restored from a backup" in str(found.end)
    assert found.restarts == ["cut", "version_too_large"]
    assert found.positions == ["5"]


async def test_what_changed_last_is_what_the_server_is_asked_for_before_the_watch_is_resumed() -> None:
    found = await follow(Streamed(three(6), bookmark(9), cut()), at(12, known=8), Streamed(SILENCE))
    assert found.replay.asked[1] == (SHOPS_SERVICES, {"fieldSelector": "metadata.name=a"})
    assert found.positions == ["5", "9"]


@pytest.mark.parametrize("answer", [at(12, known=7), at(12, known=11), listed(version=12)], ids=["older", "newer", "none"])
async def test_a_server_that_does_not_have_what_changed_last_as_it_was_may_be_of_another_history(answer: bytes) -> None:
    found = await follow(Streamed(three(6), cut()), answer)
    assert isinstance(found.end, Gone)
    assert found.restarts == ["cut", "unverified"]


@pytest.mark.parametrize("last", [deleted(service("a", 9)), deleted(service("a", 9)) + bookmark(10)])
async def test_after_a_deletion_nothing_is_left_to_ask_for(last: bytes) -> None:
    found = await follow(Streamed(three(6) + last, cut()))
    assert isinstance(found.end, Gone)
    assert found.restarts == ["cut", "unverified"]
    assert len(found.replay.asked) == 1


@pytest.mark.parametrize("late", [bookmark(4), added(service("b", 3)), modified(service("b", 6)) + bookmark(5)])
async def test_a_version_that_goes_backwards_within_a_watch_ends_it(late: bytes) -> None:
    found = await follow(Streamed(late, SILENCE))
    assert isinstance(found.end, Gone)
    assert found.versions == []


async def test_the_same_version_again_is_harmless() -> None:
    twice = modified(service("b", 6))
    assert (await follow(Streamed(bookmark(5) + twice + twice, SILENCE))).versions == [5, 6, 6]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (gone(), Gone),
        (Streamed(error(410, "Expired", "too old resource version: 5 (90)")), Gone),
        (Streamed(three(6) + error(410, "Gone")), Gone),
        (Streamed(SILENCE), Stalled),
        (refused(), Unreachable),
    ],
)
async def test_some_ends_ask_for_a_new_list(answer: Answer, kind: type[ApiError]) -> None:
    found = await follow(answer)
    assert isinstance(found.end, kind)
    assert found.restarts == ([] if kind is Unreachable else [found.end.reason])


async def test_what_came_before_an_error_is_given() -> None:
    assert (await follow(Streamed(three(6) + error(410, "Gone")))).versions == [6, 7, 8]


async def test_a_server_that_cannot_be_had_after_a_cut_asks_for_a_new_list() -> None:
    found = await follow(Streamed(three(6), cut()), refused())
    assert found.end is not None
    assert found.restarts == ["cut"], "what never began is not restarted"


async def test_an_error_in_the_middle_is_followed_by_another_watch_and_a_second_one_by_a_new_list() -> None:
    failing = Streamed(error(500, "InternalError"))
    found = await follow(failing, at(5), failing)
    assert found.end is not None
    assert found.restarts == ["server_error", "server_error"]


async def test_watches_that_bring_nothing_but_their_end_do_not_go_round_in_circles() -> None:
    again = Streamed(bookmark(5))
    found = await follow(again, at(5), again)
    assert found.end is not None
    assert found.end.reason == "closed"


async def test_a_watch_that_brought_something_may_be_resumed_any_number_of_times() -> None:
    answers: list[Answer] = []
    for version in range(6, 16):
        answers += [Streamed(added(service("a", version)), cut()), at(version)]
    found = await follow(*answers)
    assert found.versions == list(range(6, 16))
    assert found.restarts == ["cut"] * 10


async def test_a_server_that_asks_for_a_pause_gets_it_and_the_watch_is_resumed() -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    found = await follow(too_many(0.1), at(5), Streamed(error(429, "TooManyRequests")), at(5), Streamed(three(6), SILENCE))
    assert clock() - started > 0.1
    assert found.versions == [6, 7, 8]
    assert found.positions == ["5", "5", "5"]
    assert found.restarts == ["too_many_requests", "too_many_requests", "stalled"]
    assert len(found.lost) == 2


async def test_progress_is_a_success_for_pauses() -> None:
    found = Followed(Streamed(three(6), SILENCE))
    found.backoff.failed()
    await found.run()
    assert found.backoff.failures == 0


async def test_a_watch_that_stands_still_is_no_success() -> None:
    found = Followed(Streamed(bookmark(5), SILENCE))
    found.backoff.failed()
    await found.run()
    assert found.backoff.failures == 1


async def test_a_watch_that_is_under_way_is_gone_on_with() -> None:
    found = Followed(Streamed(three(6), SILENCE))
    watch = Watch.of_everything(found.asking)
    assert await anext(watch) == []
    batch = await anext(watch)
    watch.give_back(batch[1:])
    await found.run(watch)
    assert found.batches == [[7, 8]]
    assert len(found.replay.asked) == 1
    assert found.replay.queries(SERVICES)[0].items() >= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}.items()
    assert "resourceVersion" not in found.replay.queries(SERVICES)[0]


async def test_a_server_that_fails_when_asked_about_its_history_asks_for_a_new_list() -> None:
    found = await follow(Streamed(three(6), cut()), unavailable())
    assert found.end is not None
    assert found.end.reason == "server_error"
    assert not isinstance(found.end, Garbled)
