"""When rounds take place: bursts cost one, failures wait longer each time, everything is looked at now and then."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from uproxy.config import SyncSettings
from uproxy.config_rules import Duration
from uproxy.reconcile.wake import Occasion, Wake

SCHEDULING: Final = 0.5
"""Seconds that a busy machine may add."""


def settings(resync: float = 60.0, debounce: float = 0.02, limit: float = 0.1) -> SyncSettings:
    return SyncSettings(
        debounce=Duration(debounce),
        debounce_limit=Duration(limit),
        resync=Duration(resync),
        retry_base=Duration(0.05),
        retry_limit=Duration(0.2),
    )


async def started(wake: Wake) -> None:
    """Take the resync that every wake begins with."""
    assert await wake.wait() is Occasion.RESYNC


async def test_the_first_round_is_a_resync() -> None:
    await started(Wake(settings()))


async def test_a_burst_of_changes_costs_one_round() -> None:
    wake = Wake(settings())
    await started(wake)
    for _ in range(100):
        wake.set()
    assert await wake.wait() is Occasion.CHANGE
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wake.wait(), 0.1)


async def test_a_burst_that_does_not_end_is_served_within_the_limit() -> None:
    wake = Wake(settings(limit=0.1))
    await started(wake)

    async def burst() -> None:
        while True:
            wake.set()
            await asyncio.sleep(0.005)

    task = asyncio.create_task(burst())
    begin = asyncio.get_running_loop().time()
    assert await wake.wait() is Occasion.CHANGE
    assert asyncio.get_running_loop().time() - begin < 1
    task.cancel()


@pytest.mark.parametrize(("took", "least", "most"), [(0.0, 0.02, 0.1), (0.03, 0.3, 1.0), (0.08, 0.8, 2.0)])
async def test_a_burst_that_does_not_end_waits_by_what_the_last_round_took(took: float, least: float, most: float) -> None:
    """A tenth of the time at the most goes to rounds."""
    loop = asyncio.get_running_loop()
    wake = Wake(settings(limit=5.0))
    await started(wake)
    await asyncio.sleep(took)
    begin = loop.time()

    async def burst() -> None:
        while True:
            wake.set()
            await asyncio.sleep(0.001)

    task = asyncio.create_task(burst())
    assert await wake.wait() is Occasion.CHANGE
    task.cancel()
    assert loop.time() - begin >= least
    assert loop.time() - begin < most + SCHEDULING


async def test_a_failure_is_retried_after_pauses_that_double_up_to_the_limit() -> None:
    wake = Wake(settings())
    await started(wake)
    assert [wake.failed() for _ in range(4)] == pytest.approx([0.05, 0.1, 0.2, 0.2])
    assert await wake.wait() is Occasion.RETRY


async def test_what_failed_in_part_is_retried_and_what_succeeded_is_not() -> None:
    wake = Wake(settings())
    await started(wake)
    wake.succeeded(retry=True)
    assert await wake.wait() is Occasion.RETRY
    wake.succeeded(retry=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wake.wait(), 0.3)


async def test_a_resync_comes_although_nothing_changes() -> None:
    wake = Wake(settings(resync=0.05))
    await started(wake)
    assert await asyncio.wait_for(wake.wait(), 5) is Occasion.RESYNC


async def test_a_shorter_resync_is_due_from_when_it_was_set() -> None:
    wake = Wake(settings(resync=60))
    await started(wake)
    wake.use(settings(resync=0.1))
    assert await asyncio.wait_for(wake.wait(), 2) is Occasion.RESYNC


async def test_a_longer_resync_counts_from_the_next_one_on() -> None:
    wake = Wake(settings(resync=0.1))
    await started(wake)
    wake.use(settings(resync=60))
    assert await asyncio.wait_for(wake.wait(), 2) is Occasion.RESYNC
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wake.wait(), 0.3)
