"""The load itself: as many workers as connections take the units in turn, until the duration is over or a signal comes."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from bench.live.failures import Failure, reason
from bench.live.tcp import TcpLane
from bench.live.udp import UdpLane
from bench.live.web import web_lanes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from bench.live.lane import Lane, Site
    from bench.live.schedule import Schedule, Unit
    from bench.live.view import View


class Turns:
    """Hands the units out to those who wait, one after the other: asyncio's Lock is fair, so all connections are used alike."""

    def __init__(self, schedule: Schedule, now: Callable[[], float]) -> None:
        self._schedule = schedule
        self._now = now
        self._lock = asyncio.Lock()

    async def next(self) -> Unit | None:
        """Give the next unit when it is due; None when there are no more."""
        idle_since = self._now()
        async with self._lock:
            now = self._now()
            unit = self._schedule.take(now, idle_since)
            if unit and unit.due > now:
                await asyncio.sleep(unit.due - now)
            return unit


class Load:
    """One load. interrupted: the signal that ended it, or None; ended: seconds until it was over."""

    def __init__(self, site: Site, schedule: Schedule) -> None:
        self.interrupted: signal.Signals | None = None
        self.ended = 0.0
        self._site = site
        self._schedule = schedule
        self._start = perf_counter()

    def elapsed(self) -> float:
        """Give the seconds since the start."""
        return perf_counter() - self._start

    async def run(self, view: View) -> None:
        """Send everything; what is still under way when a signal comes is cut off."""
        async with lanes(self._site) as found:
            self._start = perf_counter()
            turns = Turns(self._schedule, self.elapsed)
            with self._stopped_by_signals():
                await self._work_all(turns, found, view)
            self.ended = self.elapsed()
            self._schedule.stop(self.ended)

    async def _work_all(self, turns: Turns, found: list[Lane], view: View) -> None:
        showing = asyncio.create_task(view.run(self.elapsed))
        try:
            async with asyncio.TaskGroup() as workers:
                for lane in found:
                    workers.create_task(self._work(turns, lane))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.interrupted or not task:
                raise
            task.uncancel()
        else:
            view.finish()
        finally:
            showing.cancel()

    async def _work(self, turns: Turns, lane: Lane) -> None:
        tally, options = self._site.tally, self._site.options
        while unit := await turns.next():
            tally.begin()
            try:  # a unit that is sent late, at the end, has a little less time: nothing goes on after duration + timeout
                async with asyncio.timeout(min(options.timeout, options.duration + options.timeout - self.elapsed())):
                    await lane.exchange(unit.number)
            except (OSError, Failure) as error:
                tally.fail(reason(error))
            else:
                tally.answer(self.elapsed() - unit.due)

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop(number: signal.Signals) -> None:
            if task and not self.interrupted:
                self.interrupted = number
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def lanes(site: Site) -> AbstractAsyncContextManager[list[Lane]]:
    """Give as many as there are to be connections."""
    return web_lanes(site) if site.options.kind == "http" else _own_lanes(site)


@asynccontextmanager
async def _own_lanes(site: Site) -> AsyncIterator[list[Lane]]:
    kind = TcpLane if site.options.kind == "tcp" else UdpLane
    found: list[Lane] = [kind(site) for _ in range(site.options.connections)]
    try:
        yield found
    finally:
        for lane in found:
            lane.close()
        await asyncio.sleep(0)  # asyncio closes the sockets of its transports in its next round
