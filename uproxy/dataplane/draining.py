"""Connections to endpoints that have left their slices are closed after a grace (annotation uproxy.io/drain).

Owns the endpoints that have left and a timer for those that left together; finds their connections only when it fires,
so that connections cost nothing for it. Knows nothing of slices. Invariant: what is listed again in time is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uproxy.dataplane.connection import Connection
from uproxy.dataplane.dialing import Dial

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from uproxy.core.leaving import Left
    from uproxy.core.model import Endpoint, ObjectKey
    from uproxy.dataplane.counters import Counters
    from uproxy.dataplane.resetting import PendingReset


PER_ROUND: Final = 256
"""Connections ended before the loop gets a turn: 10 us each make this less than 3 ms."""


class _Departure:
    """Endpoints that left together."""

    __slots__ = ("endpoints", "timer")

    def __init__(self, endpoints: frozenset[Endpoint]) -> None:
        self.endpoints = endpoints
        self.timer: asyncio.Handle | None = None


class Draining:
    """Ends the connections of drained endpoints. connections_of: gives all that a Service has."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
        connections_of: Callable[[ObjectKey], Iterable[Dial | Connection | PendingReset]],
    ) -> None:
        self._loop = loop
        self._counters = counters
        self._connections_of = connections_of
        self._leaving: dict[ObjectKey, dict[Endpoint, _Departure]] = {}
        self._departures: set[_Departure] = set()

    def note(self, left: Left) -> None:
        """Let the endpoints that left drain, and those that are listed again stay. A grace of 0 lets all stay."""
        leaving = self._leaving.pop(left.service, {}) if left.grace else {}
        leaving = {endpoint: departure for endpoint, departure in leaving.items() if endpoint not in left.listed}
        if left.gone:
            departure = _Departure(left.gone)
            departure.timer = self._loop.call_later(left.grace, self._drained, left.service, departure)
            self._departures.add(departure)
            leaving.update(dict.fromkeys(left.gone, departure))
        if leaving:
            self._leaving[left.service] = leaving
        else:
            self._leaving.pop(left.service, None)

    def clear(self) -> None:
        """Stop every timer."""
        for departure in self._departures:
            if departure.timer is not None:
                departure.timer.cancel()
        self._departures.clear()
        self._leaving.clear()

    def _drained(self, service: ObjectKey, departure: _Departure) -> None:
        leaving = self._leaving.get(service, {})
        gone = {endpoint for endpoint in departure.endpoints if leaving.get(endpoint) is departure}
        for endpoint in gone:
            del leaving[endpoint]
        if not leaving:
            self._leaving.pop(service, None)
        theirs = [one for one in self._connections_of(service) if isinstance(one, Dial | Connection) and one.endpoint in gone]
        self._end(theirs, gone, departure)

    def _end(self, connections: list[Dial | Connection], gone: set[Endpoint], departure: _Departure) -> None:
        """End some, the rest in the loop's next round, if it is still there then. An attempt goes elsewhere."""
        for connection in connections[:PER_ROUND]:
            if isinstance(connection, Dial):
                if connection.is_under_way and connection.endpoint in gone:
                    connection.timed_out()
            elif connection.is_open:
                self._counters.connections_drained += 1
                connection.abort()
        rest = connections[PER_ROUND:]
        if rest:
            departure.timer = self._loop.call_soon(self._end, rest, gone, departure)
        else:
            self._departures.discard(departure)
