"""Whether the API server can be listened to, as one fact for all kinds: said once when it is lost and once when it is back.

Owns the words and the end of everybody's pauses as soon as one gets through. Must not know requests. Invariant: for
every api_server_back there was an api_server_lost; in between, each further reason that lasts is named once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from uproxy.sources.kubernetes.api_errors import Forbidden, Refused

if TYPE_CHECKING:
    from uproxy.core.model import Kind
    from uproxy.log import Log
    from uproxy.sources.kubernetes.api_errors import ApiError


class _Fact(NamedTuple):
    """What is told once. kind: where it is about that kind alone."""

    error: str
    reason: str
    kind: str = ""

    def same_but_for_kind(self, other: _Fact) -> bool:
        return self[:2] == other[:2]


class _Reason(NamedTuple):
    """Why a kind is lost, and since when (monotonic seconds)."""

    fact: _Fact
    since: float


class Reachability:
    """Joins what the reflectors of all kinds meet. serving: whether there is anything that is served meanwhile.

    patience: seconds that a further reason must last.
    """

    def __init__(self, log: Log, patience: float) -> None:
        self.serving = False
        self._log = log
        self._patience = patience
        self._lost: dict[Kind, _Reason] = {}
        self._since = 0.0
        self._first = _Fact("", "")
        self._named: set[_Fact] = set()
        self._back = asyncio.Event()

    def lost(self, kind: Kind, error: ApiError) -> None:
        """Note that a list or watch of a kind could not be had."""
        now, fact = time.monotonic(), _fact_of(kind, error)
        if not self._lost:
            self._since, self._first = now, fact
            self._named.clear()
        if kind not in self._lost or self._lost[kind].fact != fact:
            self._lost[kind] = _Reason(fact, now)
        lasts = fact.same_but_for_kind(self._first) or now - self._lost[kind].since >= self._patience
        if lasts and fact not in self._named:
            self._named.add(fact)
            kept = "what was served before" if self.serving else "nothing: there is no list yet and no last known state"
            self._log.warning("api_server_lost", reason=error, kept=kept)

    def found(self, kind: Kind) -> None:
        """Note that a list or watch of a kind works."""
        if kind not in self._lost:
            return
        del self._lost[kind]
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


def _fact_of(kind: Kind, error: ApiError) -> _Fact:
    """Tell which errors are one fact: what may be asked for differs between kinds, whether anybody answers does not."""
    return _Fact(type(error).__name__, error.reason, str(kind) if isinstance(error, Forbidden | Refused) else "")
