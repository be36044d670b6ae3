"""The API server lost and back: one fact for all kinds, and nobody waits longer than until somebody gets through."""

from __future__ import annotations

import asyncio

from tests.dataplane.running import RecordingLog
from tests.sources.kubernetes.replay import cut, refused
from uproxy.core.model import Kind
from uproxy.sources.kubernetes.api_errors import Forbidden
from uproxy.sources.kubernetes.reachability import Reachability


def reachability(patience: float = 0.0) -> tuple[RecordingLog, Reachability]:
    log = RecordingLog()
    return log, Reachability(log, patience)


async def test_three_kinds_that_lose_one_server_are_one_fact() -> None:
    log, found = reachability()
    for _ in range(5):
        for kind in Kind:
            found.lost(kind, refused())
    assert [event for event, _ in log.facts] == ["api_server_lost"]
    for kind in Kind:
        assert not log.named("api_server_back")
        found.found(kind)
    assert [event for event, _ in log.facts] == ["api_server_lost", "api_server_back"]


async def test_what_may_not_be_asked_for_is_a_fact_for_each_kind() -> None:
    log, found = reachability()
    for kind in Kind:
        found.lost(kind, Forbidden(f"403 Forbidden ({kind})", "the replay"))
    assert len(log.named("api_server_lost")) == 3


async def test_a_further_reason_is_told_when_it_lasts() -> None:
    log, found = reachability(0.05)
    found.lost(Kind.NODE, refused())
    for _ in range(2):
        found.lost(Kind.NODE, Forbidden("403 Forbidden", "the replay"))
    found.lost(Kind.NODE, cut())
    found.lost(Kind.NODE, Forbidden("403 Forbidden", "the replay"))
    assert len(log.named("api_server_lost")) == 1
    await asyncio.sleep(0.06)
    for _ in range(2):
        found.lost(Kind.NODE, Forbidden("403 Forbidden", "the replay"))
    assert [type(fact["reason"]).__name__ for fact in log.named("api_server_lost")] == ["Unreachable", "Forbidden"]


async def test_a_second_loss_is_told_again() -> None:
    log, found = reachability()
    for _ in range(2):
        found.lost(Kind.NODE, refused())
        found.found(Kind.NODE)
    assert [event for event, _ in log.facts] == ["api_server_lost", "api_server_back"] * 2


async def test_what_is_served_meanwhile_is_said() -> None:
    log, found = reachability()
    found.lost(Kind.NODE, refused())
    found.serving = True
    found.lost(Kind.NODE, cut())
    first, second = (str(fact["kept"]) for fact in log.named("api_server_lost"))
    assert first.startswith("nothing")
    assert second == "what was served before"


async def test_a_pause_ends_when_the_server_is_back_for_another_kind() -> None:
    _, found = reachability()
    found.lost(Kind.NODE, refused())
    pause = asyncio.create_task(found.pause(3600))
    await asyncio.sleep(0)
    found.found(Kind.SERVICE)
    await asyncio.sleep(0)
    assert not pause.done(), "that kind had not lost it"
    found.found(Kind.NODE)
    async with asyncio.timeout(5):
        await pause


async def test_a_pause_that_nobody_ends_ends_by_itself() -> None:
    _, found = reachability()
    async with asyncio.timeout(5):
        await found.pause(0.01)
