"""New connections of a Service without endpoints, held until one appears (annotation uproxy.io/hold).

Owns which connections wait and for how long; must not know how one is made. Invariant: at most `limit` connections of
one Service wait, each with a timer of its own, and each ends in exactly one outcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from uproxy.core.model import ObjectKey
from uproxy.dataplane.counters import count

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uproxy.core.model import ServicePortName
    from uproxy.dataplane.counters import Counters
    from uproxy.dataplane.tcp import TcpListener


class Waiting(Protocol):
    """A client that can wait for an endpoint."""

    def has_endpoint(self) -> bool:
        """Tell whether there is one for it: some may be for others alone."""

    def go_on(self) -> None:
        """Try again: there is an endpoint."""

    def abort(self) -> None:
        """Reset the client; it may call discard()."""


class Holding:
    """The connections that wait. on_held(service_port): one more began to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int, counters: Counters) -> None:
        self.on_held: Callable[[ServicePortName], None] = _nobody_asks
        self._loop = loop
        self._limit = limit
        self._counters = counters
        self._held: dict[TcpListener, dict[Waiting, asyncio.TimerHandle]] = {}
        self._numbers: dict[ObjectKey, int] = {}

    def hold(self, listener: TcpListener, waiting: Waiting, seconds: float) -> bool:
        """Let a connection wait for so long; False when enough of its Service do."""
        service = _service(listener)
        number = self._numbers.get(service, 0)
        if number >= self._limit:
            count(self._counters.hold_outcomes, "too_many")
            return False
        self._numbers[service] = number + 1
        self._counters.held += 1
        self._held.setdefault(listener, {})[waiting] = self._loop.call_later(seconds, self._expired, listener, waiting)
        self.on_held(listener.service_port)
        return True

    def holds(self, listener: TcpListener, waiting: Waiting) -> bool:
        """Tell whether a connection waits."""
        return waiting in self._held.get(listener, ())

    def discard(self, listener: TcpListener, waiting: Waiting) -> None:
        """Note that the client of a connection has left; nothing happens when it does not wait."""
        self._end(listener, waiting, "client_left")

    def serve(self, listener: TcpListener) -> None:
        """Let every connection of a listener go on that has an endpoint now."""
        for waiting in tuple(self._held.get(listener, ())):
            if waiting.has_endpoint():
                self._end(listener, waiting, "served")
                waiting.go_on()

    def refuse(self, listener: TcpListener) -> None:
        """Reset every connection of a listener: nothing will come."""
        for waiting in tuple(self._held.get(listener, ())):
            self._end(listener, waiting, "withdrawn")
            waiting.abort()

    def _expired(self, listener: TcpListener, waiting: Waiting) -> None:
        self._end(listener, waiting, "timeout")
        waiting.abort()

    def _end(self, listener: TcpListener, waiting: Waiting, outcome: str) -> None:
        timer = self._held.get(listener, {}).pop(waiting, None)
        if timer is None:
            return
        timer.cancel()
        if not self._held[listener]:
            del self._held[listener]
        service = _service(listener)
        self._numbers[service] -= 1
        if not self._numbers[service]:
            del self._numbers[service]
        self._counters.held -= 1
        count(self._counters.hold_outcomes, outcome)


def _service(listener: TcpListener) -> ObjectKey:
    return ObjectKey(listener.service_port.namespace, listener.service_port.name)


def _nobody_asks(service_port: ServicePortName) -> None:
    """Ignore that a connection waits, until the reconciler says whom to tell."""
