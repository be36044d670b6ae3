"""Lists in pages: one moment, tokens that expire, pages that turn out to be large, answers that are no lists."""

from __future__ import annotations

import msgspec
import pytest

from tests.sources.kubernetes import spoken
from tests.sources.kubernetes.replay import SILENCE, Replay, gone, unavailable
from tests.sources.kubernetes.spoken import SERVICES, listed, service
from uproxy.config import KubernetesSettings
from uproxy.config_rules import Duration
from uproxy.sources.kubernetes.api_errors import Garbled, Gone, ServerFailed, Unreachable
from uproxy.sources.kubernetes.listing import pages, parse_page

SETTINGS = KubernetesSettings(page_size=2, page_bytes=65536, request_timeout=Duration(5))
SELECTORS = {"labelSelector": "!a"}


async def read(replay: Replay, *, whole: bool = False, settings: KubernetesSettings = SETTINGS) -> list[tuple[int, list[str]]]:
    """Give each page's version and the names in it."""
    found = []
    async for page in pages(replay, SERVICES, SELECTORS, settings, whole=whole):
        names = [msgspec.json.decode(item)["metadata"]["name"] for item in page.items]
        found.append((page.resource_version, names))
    return found


async def test_pages_follow_the_continue_token_with_the_same_selectors() -> None:
    answers = [listed(service("a", 1), service("b", 2), version=9, more="t1"), listed(service("c", 3), version=9)]
    replay = Replay({SERVICES: [*answers]})
    assert await read(replay) == [(9, ["a", "b"]), (9, ["c"])]
    assert replay.queries(SERVICES) == [{**SELECTORS, "limit": "2"}, {**SELECTORS, "limit": "2", "continue": "t1"}]


async def test_a_list_of_nothing_has_a_version() -> None:
    empty = b'{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":null}'
    assert await read(Replay({SERVICES: [empty]})) == [(7, [])]


async def test_a_token_that_expired_ends_the_list() -> None:
    replay = Replay({SERVICES: [listed(service("a", 1), version=9, more="t1"), gone()]})
    with pytest.raises(Gone):
        await read(replay)


async def test_a_whole_list_is_asked_for_without_a_limit() -> None:
    replay = Replay({SERVICES: [listed(service("a", 1), version=9)]})
    await read(replay, whole=True)
    assert replay.queries(SERVICES) == [SELECTORS]


async def test_large_pages_are_followed_by_smaller_ones() -> None:
    large = service("a", 1, annotations={"much": "x" * 400_000})
    small = service("b", 1)
    settings = KubernetesSettings(page_size=500, page_bytes=65536)
    replay = Replay({SERVICES: [listed(large, version=9, more="t1"), listed(small, version=9, more="t2"), listed(small, version=9)]})
    await read(replay, settings=settings)
    assert [int(query["limit"]) for query in replay.queries(SERVICES)] == [500, 81, 81]


async def test_a_page_that_does_not_come_ends_in_time() -> None:
    with pytest.raises(Unreachable):
        await read(Replay({SERVICES: [SILENCE]}), settings=KubernetesSettings(request_timeout=Duration(0.01)))


async def test_an_error_is_passed_on() -> None:
    with pytest.raises(ServerFailed):
        await read(Replay({SERVICES: [unavailable()]}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"kind":"ServiceList"}',
        b'{"kind":"ServiceList","metadata":{}}',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"x"}}',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"},"items":{}}',
        b'{"kind":"Service","metadata":{"resourceVersion":"1"}}',
        listed(service("a", 1), version=9)[:-2],
    ],
)
def test_what_is_no_list_is_garbled(body: bytes) -> None:
    with pytest.raises(Garbled) as found:
        parse_page(body, SERVICES)
    assert found.value.where == SERVICES


def test_one_damaged_byte_anywhere_is_enough_to_believe_none_of_a_page() -> None:
    body = listed(service("a", 1), service("b", 2), version=9)
    for place in range(len(body)):
        with pytest.raises(Garbled):
            parse_page(body[:place] + bytes([body[place] ^ 0xFF]) + body[place + 1 :], SERVICES)


def test_an_item_of_a_list_does_not_repeat_its_kind() -> None:
    (item,) = parse_page(spoken.listed(service("a", 1), version=9), SERVICES).items
    assert "kind" not in msgspec.json.decode(item)
