"""How late the event loop comes round: what a timer had to wait beyond its time; and how many tasks it has.

Owns the measurement; metrics.py shows it.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn


class LoopProbe:
    """Measures every `interval` seconds. last, longest: seconds of lag, just now and since the start."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._loop: asyncio.AbstractEventLoop | None = None
        self.last = 0.0
        self.longest = 0.0

    @property
    def tasks(self) -> int:
        """Count the loop's tasks that have not ended: 10 us for a hundred of them."""
        return 0 if self._loop is None else len(asyncio.all_tasks(self._loop))

    async def run(self) -> NoReturn:
        """Measure until cancelled."""
        self._loop = asyncio.get_running_loop()
        clock = self._loop.time
        while True:
            due = clock() + self._interval
            await asyncio.sleep(self._interval)
            self.last = max(0.0, clock() - due)
            self.longest = max(self.longest, self.last)
