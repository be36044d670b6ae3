"""How many connections each endpoint has: what least connections are chosen by.

Owns the numbers alone; knows neither connections nor what is chosen. Invariant: an endpoint without connections takes no
memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uproxy.core.model import Endpoint


class Loads:
    """How many connections each endpoint has, of those that were told: where something is asked of TCP by annotations.

    Shared by all Balancers, as endpoints are.
    """

    def __init__(self) -> None:
        self._open: dict[Endpoint, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def of(self, endpoint: Endpoint) -> int:
        """Give the number of the endpoint's connections."""
        return self._open.get(endpoint, 0)

    def began(self, endpoint: Endpoint) -> None:
        """Note a connection, or an attempt at one."""
        self._open[endpoint] = self._open.get(endpoint, 0) + 1

    def ended(self, endpoint: Endpoint) -> None:
        """Note the end of one that began."""
        left = self._open[endpoint] - 1
        if left:
            self._open[endpoint] = left
        else:
            del self._open[endpoint]
