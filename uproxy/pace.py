"""Long work in slices: after so many seconds the loop gets a turn, so that traffic never waits for a plan."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Gives the loop a turn whenever the work since the last one took longer than a slice (seconds)."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    async def turn(self) -> None:
        """Call between two pieces of work; each should be far shorter than the slice."""
        if time.monotonic() >= self._end:
            await asyncio.sleep(0)
            self._end = time.monotonic() + self._seconds
