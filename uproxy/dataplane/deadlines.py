"""Items that expire a fixed time after they were added: one timer for all of them.

With a constant delay the order of adding is the order of expiry, so adding and discarding cost one dict
operation each and no timer object per item: at 10,000 connections a second that is what matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Item = TypeVar("Item")
# Items settled before the loop gets a turn: five system calls each make this about 0.5 ms.
SETTLED_PER_ROUND: Final = 256


class Deadlines(Generic[Item]):
    """Calls expired(item) `delay` seconds after add(item), unless it was discarded. Items are hashable."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float, expired: Callable[[Item], None]) -> None:
        self._loop = loop
        self._delay = delay
        self._expired = expired
        self._due: dict[Item, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, item: Item, now: float) -> None:
        """Let the item expire `delay` seconds from now (the loop's time); adding it again starts anew."""
        due = self._due
        if item in due:
            del due[item]
        due[item] = now + self._delay
        if self._timer is None:
            self._timer = self._loop.call_later(self._delay, self._fire)

    def discard(self, item: Item) -> None:
        """Let the item not expire; nothing happens when it is not there."""
        self._due.pop(item, None)

    def clear(self) -> None:
        """Let nothing expire any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        due = self._due
        try:
            while due:
                item = next(iter(due))
                # A millisecond early is on time: the loop's clock is coarser than the deadlines.
                if due[item] > now + 0.001:
                    break
                del due[item]
                self._expired(item)
        finally:
            # Also when one of them raised: the others still have their time.
            if due and self._timer is None:
                self._timer = self._loop.call_later(max(0.0, next(iter(due.values())) - now), self._fire)


class Settling(Generic[Item]):
    """Calls settled(item) one to two periods after add(item), unless it was discarded.

    Cheaper than Deadlines, for nothing depends on the moment: two sets that change places once per period.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, period: float, settled: Callable[[Item], None]) -> None:
        self._loop = loop
        self._period = period
        self._settled = settled
        self._young: set[Item] = set()
        self._old: set[Item] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Item) -> None:
        """Let the item settle."""
        self._young.add(item)
        if self._timer is None:
            self._timer = self._loop.call_later(self._period, self._fire)

    def discard(self, item: Item) -> None:
        """Let the item not settle; nothing happens when it is not there."""
        self._young.discard(item)
        self._old.discard(item)

    def clear(self) -> None:
        """Let nothing settle any more."""
        self._young.clear()
        self._old.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        settled, self._old, self._young = self._old, self._young, set()
        if self._old:
            self._timer = self._loop.call_later(self._period, self._fire)
        self._settle(settled)

    def _settle(self, settled: set[Item]) -> None:
        """Settle some, the rest in the loop's next round. Those that end meanwhile are still called: they must not mind."""
        for _ in range(min(SETTLED_PER_ROUND, len(settled))):
            self._settled(settled.pop())
        if settled:
            self._loop.call_soon(self._settle, settled)
