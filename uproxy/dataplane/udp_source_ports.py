"""Which explicit UDP source ports are in use, per client address and endpoint.

Owns the register. Must not know sockets. The kernel lets two UDP sockets with SO_REUSEADDR be bound to the same
address and port and connected to the same peer, and then one of them never hears anything; without that option a
port could serve one endpoint only. Invariant: no two flows hold the same (client, endpoint, port) at a time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uproxy.core.model import Endpoint


class _Pair:
    """The ports of one client and endpoint: `fresh` were never used, `free` were, the longest free first."""

    __slots__ = ("following", "free", "fresh", "held")

    def __init__(self, following: int, fresh: int) -> None:
        self.following = following
        self.fresh = fresh
        self.free: deque[int] = deque()
        self.held = 0


class SourcePorts:
    """The register. first and last are ports that nobody on the clients' side chooses (see UdpSettings.source_ports)."""

    def __init__(self, first: int, last: int) -> None:
        self._first = first
        self._count = last - first + 1
        self._start = 0
        self._pairs: dict[tuple[str, Endpoint], _Pair] = {}

    def __len__(self) -> int:
        return sum(pair.held for pair in self._pairs.values())

    def take(self, client: str, endpoint: Endpoint) -> int | None:
        """Hold a port for this pair, one that was free for as long as possible; None when all are held."""
        pair = self._pairs.get((client, endpoint))
        if pair is None:
            pair = self._pairs[client, endpoint] = _Pair(self._start, self._count)
            # A pair that comes back begins elsewhere: a late answer to its last flow must not meet the next one.
            self._start = (self._start + 1) % self._count
        if pair.fresh:
            offset = pair.following
            pair.following = (offset + 1) % self._count
            pair.fresh -= 1
        elif pair.free:
            offset = pair.free.popleft()
        else:
            return None
        pair.held += 1
        return self._first + offset

    def release(self, client: str, endpoint: Endpoint, port: int) -> None:
        """Give a port back that take() gave for the same pair."""
        pair = self._pairs[client, endpoint]
        pair.held -= 1
        if pair.held:
            pair.free.append(port - self._first)
        else:
            del self._pairs[client, endpoint]
