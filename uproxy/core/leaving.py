"""Which endpoints have left the slices of a Service that drains them.

Owns the comparison of what the slices list now with what they listed before, whatever the endpoints' conditions: one
that terminates and is still listed has not left. Knows nothing of connections. Invariant: an endpoint that left is
told once, and counts as listed again as soon as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from uproxy.core.model import Endpoint, EndpointSlice, ObjectKey, Protocol, Service

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOBODY: Final[frozenset[Endpoint]] = frozenset()


class Left(Struct, frozen=True):
    """What changed for a Service: the endpoints that left its slices, and those that may stay. grace: seconds."""

    service: ObjectKey
    gone: frozenset[Endpoint]
    listed: frozenset[Endpoint]
    grace: float


class _Watched(Struct, frozen=True, gc=False):
    grace: float
    listed: frozenset[Endpoint]


class Leaving:
    """Remembers the listed endpoints of every Service with the annotation uproxy.io/drain; of no other."""

    def __init__(self) -> None:
        self._watched: dict[ObjectKey, _Watched] = {}

    def compare(self, key: ObjectKey, service: Service | None, slices: Iterable[EndpointSlice]) -> Left | None:
        """Take over what is known of a Service and tell what has changed, if something has.

        A Service that is gone is remembered until its slices are empty too: it is they that say which endpoints left.
        A grace of 0: the annotation is gone, and everything may stay.
        """
        former = self._watched.get(key)
        grace = service.options.drain if service is not None else former.grace if former is not None else 0.0
        if not grace:
            return None if self._watched.pop(key, None) is None else Left(key, _NOBODY, _NOBODY, 0)
        now = listed(slices)
        if service is None and not now:
            self._watched.pop(key, None)
        else:
            self._watched[key] = _Watched(grace, now)
        before = _NOBODY if former is None else former.listed
        return Left(key, before - now, now, grace) if before != now else None


def listed(slices: Iterable[EndpointSlice]) -> frozenset[Endpoint]:
    """Give every TCP endpoint that slices name, of both families, on all their ports."""
    return frozenset(
        Endpoint(endpoint.address, port.port)
        for found in slices
        for port in found.ports
        if port.protocol is Protocol.TCP
        for endpoint in found.endpoints
    )
