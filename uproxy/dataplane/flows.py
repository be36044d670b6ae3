"""All UDP flows of the process, in the order of their last use: which one ends next, and when.

Owns the order, the two idle timeouts, the cap, and one timer for all flows. Must not know sockets, listeners
or endpoints: a flow is something with a time of last use that can end. Invariant: within each of the two
queues (unanswered, answered) flows stand in the order of their last use, so the front is what ends first and
touching a flow is one store and one move to the end of a linked list (about 50 ns).
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from uproxy.dataplane.counters import count

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from uproxy.config import UdpSettings

# Flows ended in one go before the loop gets a turn: closing a socket takes 5 to 10 us, so this is about 2 ms.
ENDED_PER_TURN: Final = 256
# Sweeps per idle timeout at most (about once a second with the default settings), so that flows
# that were opened one after the other do not each cause a wake-up of their own.
SWEEPS_PER_TIMEOUT: Final = 32


class Ending(Protocol):
    """What the table sees of a flow. used: the time of its last datagram, in seconds of the monotonic clock."""

    used: float

    def end(self, *, at_once: bool = False) -> None:
        """Close the flow and take it out of the table. at_once: its descriptor must be free when this returns."""


F = TypeVar("F", bound=Ending)


class FlowTable(Generic[F]):
    """Flows in the order of their last use. The caller sets flow.used to the time before each call that touches it.

    A flow belongs to the unanswered ones until answered(flow). touch_unanswered(flow) and touch_answered(flow)
    move a flow to the end of its queue; they raise KeyError when it is not in that queue.
    """

    def __init__(self, unanswered_seconds: float, answered_seconds: float) -> None:
        self._unanswered_seconds = unanswered_seconds
        self._answered_seconds = answered_seconds
        self._unanswered: OrderedDict[F, None] = OrderedDict()
        self._answered: OrderedDict[F, None] = OrderedDict()
        self.touch_unanswered: Callable[[F], None] = self._unanswered.move_to_end
        self.touch_answered: Callable[[F], None] = self._answered.move_to_end

    def __len__(self) -> int:
        return len(self._unanswered) + len(self._answered)

    def __contains__(self, flow: F) -> bool:
        return flow in self._unanswered or flow in self._answered

    def add(self, flow: F) -> None:
        """Take in a new flow, used just now, not answered yet."""
        self._unanswered[flow] = None

    def answered(self, flow: F) -> None:
        """Move a flow whose endpoint has answered just now to those with the longer timeout."""
        del self._unanswered[flow]
        self._answered[flow] = None

    def discard(self, flow: F) -> bool:
        """Forget a flow; False when it was not there."""
        for queue in (self._unanswered, self._answered):
            if flow in queue:
                del queue[flow]
                return True
        return False

    def oldest(self) -> F | None:
        """Give the least recently used flow of all; None when there are none."""
        unanswered, answered = self._fronts()
        if unanswered is None or answered is None:
            return answered if unanswered is None else unanswered
        return answered if answered.used < unanswered.used else unanswered

    def due(self) -> float | None:
        """Give the time at which the next flow has been idle for too long; None when there are none."""
        unanswered, answered = self._fronts()
        times = [] if unanswered is None else [unanswered.used + self._unanswered_seconds]
        if answered is not None:
            times.append(answered.used + self._answered_seconds)
        return min(times, default=None)

    def idle(self, now: float, at_most: int) -> list[F]:
        """Give up to at_most flows that have been idle for too long, those of each queue oldest first."""
        found: list[F] = []
        for queue, seconds in ((self._unanswered, self._unanswered_seconds), (self._answered, self._answered_seconds)):
            for flow in queue:
                if len(found) == at_most or flow.used + seconds > now:
                    break
                found.append(flow)
        return found

    def _fronts(self) -> tuple[F | None, F | None]:
        return next(iter(self._unanswered), None), next(iter(self._answered), None)


class Flows(FlowTable[F]):
    """The table with its cap and its timer: ends what is idle, makes room when it is full.

    limit: flows that may exist at a time. evictions: how many ended before they were idle, by reason; the caller's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: UdpSettings, limit: int, evictions: dict[str, int]) -> None:
        super().__init__(settings.unanswered_timeout, settings.answered_timeout)
        self.limit = limit
        self._evictions = evictions
        self._loop = loop
        self._longest_pause = min(settings.unanswered_timeout, settings.answered_timeout)
        self._timer: asyncio.Handle | None = None
        self._leaving: deque[tuple[F, str]] = deque()

    def add(self, flow: F) -> None:
        """Take in a new flow, used just now, and see that it ends when it is idle."""
        super().add(flow)
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause(), self._sweep)

    def make_room(self) -> None:
        """End the least recently used flow if the table is full."""
        if len(self) >= self.limit:
            self.evict("cap")

    def evict(self, reason: str, *, at_once: bool = False) -> bool:
        """End the least recently used flow and count why; False when there is none."""
        flow = self.oldest()
        if flow is None:
            return False
        flow.end(at_once=at_once)
        count(self._evictions, reason)
        return True

    def end_all(self, flows: Iterable[F], reason: str) -> None:
        """End these flows: the first few now, the rest in slices, so that a flood's worth of them does not stop the loop."""
        self._leaving.extend((flow, reason) for flow in flows)
        self._end_some()

    def stop(self) -> None:
        """End every flow and cancel the timer."""
        self._leaving.clear()
        while (flow := self.oldest()) is not None:
            flow.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_some(self) -> None:
        for _ in range(min(ENDED_PER_TURN, len(self._leaving))):
            flow, reason = self._leaving.popleft()
            if flow in self:
                flow.end()
                count(self._evictions, reason)
        if self._leaving:
            self._loop.call_soon(self._end_some)

    def _pause(self) -> float:
        """Give the seconds until the next sweep: never longer than what a flow added meanwhile can wait for."""
        until_due = (self.due() or 0.0) - time.monotonic()
        return min(max(until_due, self._longest_pause / SWEEPS_PER_TIMEOUT), self._longest_pause)

    def _sweep(self) -> None:
        idle = self.idle(time.monotonic(), ENDED_PER_TURN)
        for flow in idle:
            flow.end()
        if not len(self):
            self._timer = None
        elif len(idle) == ENDED_PER_TURN:
            self._timer = self._loop.call_soon(self._sweep)
        else:
            self._timer = self._loop.call_later(self._pause(), self._sweep)
