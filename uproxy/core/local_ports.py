"""Which local port a listener gets whose traffic the kernel rewrites.

Owns the choice only; knows nothing of sockets and of the kernel's map. Invariant: a port that was given
out stays the same for as long as it is possible, across restarts too, and can be told from the service
port by eye: 80 becomes 20080, 5432 becomes 25432.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

    from uproxy.core.model import RouteKey

_FOUR_DIGITS: Final = 10_000


def allocate(  # noqa: PLR0917 - all six are of one decision, and a range is two numbers everywhere else too
    key: RouteKey, inherited: int | None, taken: Container[int], service_ports: Container[int], first: int, last: int
) -> int | None:
    """Choose a port from first to last (both included) for the listener of key; None when all are used.

    inherited: the port that the kernel's map has for key from an earlier run. taken: local ports in use on
    the same VIP. service_ports: the VIP's service ports, for a listener there would be hit by a client that
    addresses such a port.
    """
    if inherited is not None and first <= inherited <= last and inherited not in taken and inherited not in service_ports:
        return inherited
    span = last - first + 1
    start = (key.port - first) % min(span, _FOUR_DIGITS)
    for step in range(span):
        port = first + (start + step) % span
        if port not in taken and port not in service_ports:
            return port
    return None
