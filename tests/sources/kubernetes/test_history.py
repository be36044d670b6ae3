"""What changed last in a collection, and whether a server still knows it."""

from __future__ import annotations

import pytest
from msgspec import Raw

from tests.sources.kubernetes.replay import Replay, unavailable
from tests.sources.kubernetes.spoken import NODES, SERVICES, listed, service
from uproxy.config import KubernetesSettings
from uproxy.core.model import ObjectKey
from uproxy.sources.kubernetes.api_errors import Garbled, Gone, ServerFailed
from uproxy.sources.kubernetes.history import Newest, check_history
from uproxy.sources.kubernetes.watch_event import Bookmark, Changed, Removed

A, B = ObjectKey("shop", "a"), ObjectKey("shop", "b")
SETTINGS = KubernetesSettings()
SHOPS_SERVICES = "/api/v1/namespaces/shop/services"


def changed(key: ObjectKey, version: int) -> Changed:
    return Changed(key, version, Raw(b"{}"))


def newest(*events: Changed | Removed | Bookmark) -> Newest:
    found = Newest()
    for event in events:
        found = found.after(event)
    return found


def test_the_change_with_the_highest_version_is_the_newest_in_whatever_order_they_come() -> None:
    assert newest(changed(A, 7), changed(B, 5)) == newest(changed(B, 5), changed(A, 7)) == Newest(7, A)


def test_a_deletion_leaves_nothing_to_ask_for_until_something_changes() -> None:
    assert newest(changed(A, 7), Removed(B, 8)) == Newest(8, None)
    assert newest(changed(A, 7), Removed(B, 8), changed(A, 9)) == Newest(9, A)


def test_a_bookmark_changes_nothing() -> None:
    assert newest(changed(A, 7), Bookmark(90)) == Newest(7, A)
    assert newest(Bookmark(90)) == Newest()


async def test_a_server_that_has_the_newest_change_and_is_as_far_has_the_same_history() -> None:
    replay = Replay({SHOPS_SERVICES: [listed(service("a", 7), version=20)]})
    await check_history(replay, SERVICES, SETTINGS, 20, Newest(7, A))
    assert replay.asked == [(SHOPS_SERVICES, {"fieldSelector": "metadata.name=a"})]


async def test_a_node_is_asked_for_without_a_namespace() -> None:
    replay = Replay({NODES: [listed({"metadata": {"name": "n1", "resourceVersion": "7"}}, version=20, kind="NodeList")]})
    await check_history(replay, NODES, SETTINGS, 20, Newest(7, ObjectKey("", "n1")))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (listed(service("a", 7), version=19), "version_too_large"),
        (listed(version=20), "unverified"),
        (listed(service("a", 6), version=20), "unverified"),
        (listed(service("a", 25), version=30), "unverified"),
    ],
    ids=["not as far", "not there", "older", "newer"],
)
async def test_any_other_server_is_listed_anew(answer: bytes, reason: str) -> None:
    with pytest.raises(Gone) as found:
        await check_history(Replay({SHOPS_SERVICES: [answer]}), SERVICES, SETTINGS, 20, Newest(7, A))
    assert found.value.reason == reason


async def test_where_nothing_is_left_to_ask_for_nothing_is_asked() -> None:
    replay = Replay({})
    with pytest.raises(Gone):
        await check_history(replay, SERVICES, SETTINGS, 20, Newest(7, None))
    assert replay.asked == []


async def test_errors_are_passed_on() -> None:
    with pytest.raises(ServerFailed):
        await check_history(Replay({SHOPS_SERVICES: [unavailable()]}), SERVICES, SETTINGS, 20, Newest(7, A))
    with pytest.raises(Garbled):
        await check_history(Replay({SHOPS_SERVICES: [b"?"]}), SERVICES, SETTINGS, 20, Newest(7, A))
