"""When items expire, on both event loops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.running import LOOPS, WAIT
from uproxy.dataplane.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Iterator

DELAY = 0.05


@pytest.fixture
def loop(loop_name: str) -> Iterator[asyncio.AbstractEventLoop]:
    made = LOOPS[loop_name]()
    yield made
    made.close()


def run_until_expired(loop: asyncio.AbstractEventLoop, expired: list[str], last: str) -> None:
    async def wait() -> None:
        async with asyncio.timeout(WAIT):
            while last not in expired:  # noqa: ASYNC110 - the loop itself is what is tested
                await asyncio.sleep(0.001)

    loop.run_until_complete(wait())


def test_items_expire_in_the_order_of_adding_after_the_delay(loop: asyncio.AbstractEventLoop) -> None:
    expired: list[str] = []
    deadlines = Deadlines(loop, DELAY, expired.append)
    began = loop.time()
    for item in ("a", "b", "c"):
        deadlines.add(item, loop.time())
    run_until_expired(loop, expired, "c")
    assert expired == ["a", "b", "c"]
    assert loop.time() - began >= DELAY - 0.002
    assert len(deadlines) == 0


def test_a_discarded_item_does_not_expire_and_the_others_do(loop: asyncio.AbstractEventLoop) -> None:
    expired: list[str] = []
    deadlines = Deadlines(loop, DELAY, expired.append)
    for item in ("a", "b", "c"):
        deadlines.add(item, loop.time())
    deadlines.discard("b")
    deadlines.discard("never added")
    run_until_expired(loop, expired, "c")
    assert expired == ["a", "c"]


def test_adding_again_starts_anew(loop: asyncio.AbstractEventLoop) -> None:
    expired: list[str] = []
    deadlines = Deadlines(loop, DELAY, expired.append)
    deadlines.add("renewed", loop.time())
    loop.call_later(DELAY / 2, lambda: deadlines.add("other", loop.time()))
    loop.call_later(DELAY / 2 + 0.01, lambda: deadlines.add("renewed", loop.time()))
    run_until_expired(loop, expired, "renewed")
    assert expired == ["other", "renewed"]


def test_an_item_added_while_others_expire_has_its_own_time(loop: asyncio.AbstractEventLoop) -> None:
    expired: list[str] = []

    def expire(item: str) -> None:
        expired.append(item)
        if item == "a":
            deadlines.add("b", loop.time())
            deadlines.discard("same time")

    deadlines = Deadlines(loop, DELAY, expire)
    deadlines.add("a", loop.time())
    deadlines.add("same time", loop.time())
    began = loop.time()
    run_until_expired(loop, expired, "b")
    assert expired == ["a", "b"]
    assert loop.time() - began >= 2 * DELAY - 0.004


def test_nothing_expires_after_clear(loop: asyncio.AbstractEventLoop) -> None:
    expired: list[str] = []
    cleared, other = Deadlines(loop, DELAY, expired.append), Deadlines(loop, 2 * DELAY, expired.append)
    cleared.add("gone", loop.time())
    other.add("later", loop.time())
    cleared.clear()
    run_until_expired(loop, expired, "later")
    assert expired == ["later"]
