"""How late the event loop comes round: what a timer had to wait beyond its time.

Owns the measurement; metrics.py shows it.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn


class LoopProbe:
    """Measures every `interval` seconds. last, longest: seconds of lag, just now and since the start."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self.last = 0.0
        self.longest = 0.0

    async def run(self) -> NoReturn:
        """Measure until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + self._interval
            await asyncio.sleep(self._interval)
            self.last = max(0.0, clock() - due)
            self.longest = max(self.longest, self.last)
