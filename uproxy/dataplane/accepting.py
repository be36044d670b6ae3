"""When accepting has to pause: descriptors, buffers or memory have run out.

Owns the set of listeners that pause and the timer that lets them go on; must not know what they accept. The
clients that wait meanwhile wait in the kernel's queue. Invariant: a pausing listener causes no events, so that
running out of something costs nothing until there may be room again.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Protocol

from uproxy.dataplane.counters import count

if TYPE_CHECKING:
    import asyncio

    from uproxy.dataplane.context import Context

# accept(2) and socket(2): what is missing is missing for everybody.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
BUDGET: Final = "budget"
"""The reason when uproxy's own descriptor budget is used up; the others are errno names."""


class Pausing(Protocol):
    """What can pause."""

    def pause(self) -> None:
        """Cause no events until resume()."""

    def resume(self) -> None:
        """Go on."""


class AcceptGate:
    """Pauses listeners, and lets them go on when something was closed, at the latest after `seconds`."""

    def __init__(self, context: Context, seconds: float) -> None:
        self._loop = context.loop
        self._log = context.log
        self._descriptors = context.descriptors
        self._counters = context.counters
        self._seconds = seconds
        self._pausing: set[Pausing] = set()
        self._timer: asyncio.TimerHandle | None = None
        context.descriptors.on_given = self.open

    def pause(self, listener: Pausing, reason: str) -> None:
        """Let the listener pause because of `reason`."""
        count(self._counters.accept_pauses, reason)
        self._log.warning("accept_paused", subject=reason, descriptors=self._descriptors.taken, budget=self._descriptors.budget)
        self._descriptors.tell()
        if listener not in self._pausing:
            self._pausing.add(listener)
            listener.pause()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self.open)

    def open(self) -> None:
        """Let everybody go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pausing, self._pausing = self._pausing, set()
        for listener in pausing:
            listener.resume()

    def forget(self, listener: Pausing) -> None:
        """Let go of a listener that is being closed."""
        self._pausing.discard(listener)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pausing.clear()
