"""Whether the API server can be listened to, as one fact for all kinds: said once when it is lost and once when it is back.

Owns the words and the end of everybody's pauses as soon as one gets through. Must not know requests. Invariant: for
every api_server_back there was an api_server_lost; in between, each further reason is named once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from uproxy.sources.kubernetes.api_errors import Forbidden, Refused

if TYPE_CHECKING:
    from uproxy.core.model import Kind
    from uproxy.log import Log
    from uproxy.sources.kubernetes.api_errors import ApiError


class Reachability:
    """Joins what the reflectors of all kinds meet. serving: whether there is anything that is served meanwhile."""

    def __init__(self, log: Log) -> None:
        self.serving = False
        self._log = log
        self._lost: set[Kind] = set()
        self._since = 0.0
        self._named: set[tuple[str, ...]] = set()
        self._back = asyncio.Event()

    def lost(self, kind: Kind, error: ApiError) -> None:
        """Note that a list or watch of a kind could not be had."""
        if not self._lost:
            self._since = time.monotonic()
            self._named.clear()
        self._lost.add(kind)
        fact = _fact_of(kind, error)
        if fact not in self._named:
            self._named.add(fact)
            kept = "what was served before" if self.serving else "nothing: there is no list yet and no last known state"
            self._log.warning("api_server_lost", reason=error, kept=kept)

    def found(self, kind: Kind) -> None:
        """Note that a list or watch of a kind works."""
        if kind not in self._lost:
            return
        self._lost.discard(kind)
        self._back.set()
        self._back = asyncio.Event()
        if not self._lost:
            self._log.info("api_server_back", seconds=round(time.monotonic() - self._since, 1))

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the server is back for some kind."""
        try:
            async with asyncio.timeout(seconds):
                await self._back.wait()
        except TimeoutError:
            pass


def _fact_of(kind: Kind, error: ApiError) -> tuple[str, ...]:
    """Tell which errors are one fact: what may be asked for differs between kinds, whether anybody answers does not."""
    about = (str(kind),) if isinstance(error, Forbidden | Refused) else ()
    return (type(error).__name__, error.reason, *about)
