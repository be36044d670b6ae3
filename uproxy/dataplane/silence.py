"""Connections on which no byte comes or goes for too long are reset (annotation uproxy.io/idle-timeout).

Owns one timer per watched connection; asks the kernel when the last byte moved, so that moving bytes costs nothing for
it. Knows nothing of how they move. Invariant: a connection is reset at most 10 ms before it has been silent for the whole
time, and a watch ends by itself once the Service asks for another time or for none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uproxy.dataplane.tcp_context import silent_seconds

if TYPE_CHECKING:
    import asyncio

    from uproxy.dataplane.connection import Connection
    from uproxy.dataplane.tcp import TcpListener

# The kernel counts in its own ticks of up to 10 ms (CONFIG_HZ=100).
TICK: Final = 0.01


class Silence:
    """The watch over one connection, from now on; for the time that its listener's options say now."""

    __slots__ = ("_connection", "_idle", "_listener", "_timer")

    def __init__(self, listener: TcpListener, connection: Connection) -> None:
        self._listener = listener
        self._connection = connection
        self._idle = listener.options.idle_timeout
        self._timer: asyncio.TimerHandle = listener.tcp.loop.call_later(self._idle, self._check)

    def stop(self) -> None:
        """Watch no more."""
        self._timer.cancel()

    def _check(self) -> None:
        """End the connection if it was silent for the whole time, else look again when that could be so."""
        connection, tcp = self._connection, self._listener.tcp
        if not connection.is_open or self._listener.options.idle_timeout != self._idle:
            return
        silence = min(silent_seconds(connection.client.sock), silent_seconds(connection.upstream.sock))
        if silence < self._idle - TICK:
            self._timer = tcp.loop.call_later(self._idle - silence, self._check)
            return
        tcp.counters.idle_timeouts += 1
        connection.abort()
