"""What all TCP listeners and connections share, in one object that the hot path reaches in one step.

Owns the pipes, the deadlines of connect attempts, the sweep of half-closed connections, those that are held for want
of an endpoint, and the gate of accepting.
Knows nothing of a single connection's course.
"""

from __future__ import annotations

import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Final

from uproxy.dataplane.accepting import AcceptGate
from uproxy.dataplane.deadlines import Deadlines, Settling
from uproxy.dataplane.holding import Holding
from uproxy.dataplane.pipes import Pipes
from uproxy.dataplane.upstream import Upstreams

if TYPE_CHECKING:
    import _socket

    from uproxy.dataplane.connection import Connection
    from uproxy.dataplane.context import Context
    from uproxy.dataplane.dialing import Dial

# linux/tcp.h, struct tcp_info: eight bytes, nine 32-bit numbers, then milliseconds since data was last sent, an ACK
# was last sent (always 0), data was last received.
LAST_DATA: Final = struct.Struct("=44xI4xI")
NEVER_SPLICE: Final = 1 << 62


class TcpContext:
    """The shared parts. attempts: one Deadlines per entry of connect_timeouts."""

    def __init__(self, context: Context) -> None:
        settings = context.config.tcp
        self.settings = settings
        self.loop = context.loop
        self.log = context.log
        self.reactor = context.reactor
        self.counters = context.counters
        self.ejector = context.ejector
        self.traffic = context.traffic
        self.descriptors = context.descriptors
        self.buffer = context.reactor.buffer
        self.buffer_bytes = len(self.buffer)
        self.turn_bytes = settings.turn_bytes
        self.pipe_bytes = settings.pipe_bytes
        self.splice_after = settings.splice_after or NEVER_SPLICE
        self.pipes = Pipes(settings.pipes, settings.pipe_bytes, context.descriptors)
        self.upstreams = Upstreams(settings, context.client_addresses, context.counters)
        self.gate = AcceptGate(context, settings.accept_pause)
        self.holding = Holding(self.loop, settings.held_connections, context.counters)
        self.attempts: list[Deadlines[Dial]] = [Deadlines(self.loop, timeout, _timed_out) for timeout in settings.connect_timeouts]
        # Five system calls that nearly every short connection is spared: 2.5 % of its CPU. Later by less than a tenth of
        # the earliest moment at which any of them has an effect.
        self.settling: Settling[Connection] = Settling(self.loop, min(settings.keepalive_idle, settings.user_timeout) / 20, self._settle)
        self.half_closed: Deadlines[Connection] = Deadlines(self.loop, settings.half_close_timeout, self._check_silence)

    def close(self) -> None:
        """Stop every timer and close the pipes. Connections must have ended."""
        for deadlines in self.attempts:
            deadlines.clear()
        self.half_closed.clear()
        self.settling.clear()
        self.gate.close()
        self.pipes.close()

    def _settle(self, connection: Connection) -> None:
        if connection.is_open:
            self.upstreams.settle(connection.upstream.sock)

    def _check_silence(self, connection: Connection) -> None:
        """End a half-closed connection that has been silent for the whole timeout; look again later at one that was not.

        The kernel knows when the last byte came or went (TCP_INFO), so that the hot path need not note it.
        """
        if not connection.is_open:
            return
        silence = min(silent_seconds(connection.client.sock), silent_seconds(connection.upstream.sock))
        remaining = self.settings.half_close_timeout - silence
        if remaining > 0:
            self.loop.call_later(remaining, partial(self._check_silence, connection))
            return
        self.counters.half_close_timeouts += 1
        connection.abort()


def silent_seconds(sock: _socket.socket) -> float:
    """Tell how long ago the last byte was received or sent (tcp(7), TCP_INFO)."""
    sent: int
    received: int
    sent, received = LAST_DATA.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA.size))
    return min(sent, received) / 1000


def _timed_out(dial: Dial) -> None:
    dial.timed_out()
