"""The two sides of an established TCP connection: what arrives at one is sent to the other.

Owns the hot path: one event, one recv_into, one send, no allocation but the slice between them. Knows how bytes
move and what they meet (back-pressure, end of stream, error); what follows from an end or an error is the
connection's to decide. Invariant: a side is not read while its peer holds bytes that could not be sent yet.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from uproxy.dataplane.pipes import Pipe
from uproxy.dataplane.reactor import CLOSED, EDGE, ERROR, HANG_UP, READ, URGENT, WRITE
from uproxy.dataplane.splicing import send_spliced, splice_turn

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from uproxy.dataplane.connection import Connection
    from uproxy.dataplane.counters import Meter
    from uproxy.dataplane.tcp_context import TcpContext

# Every socket is registered once, for everything, and never modified.
EVERYTHING: Final = READ | WRITE | HANG_UP | URGENT | EDGE
RARE: Final = HANG_UP | URGENT | ERROR | CLOSED
READABLE: Final = READ | HANG_UP | ERROR | CLOSED
# Accepted sockets are left blocking, which saves a system call each.
DONT_WAIT: Final = socket.MSG_DONTWAIT
NOTHING: Final = b""


class Side:
    """One of a connection's two sockets, with what waits to be sent to it.

    held: bytes for this side that its socket did not take yet; NOTHING on a side that takes no more, ever.
    hung_up: a FIN is in its receive queue. ended: that FIN has been read. broken: why its socket is dead.
    urgent: the peer sent an urgent byte. full: full buffers read in a row. lean: small spliced turns in a row.
    """

    __slots__ = (
        "broken", "connection", "ended", "full", "held", "hung_up", "lean", "meter", "peer", "recv_into", "send", "sock", "splicing",
        "tcp", "urgent",
    )  # fmt: skip

    def __init__(self, connection: Connection, sock: _socket.socket, meter: Meter, tcp: TcpContext) -> None:
        self.connection = connection
        self.sock = sock
        self.recv_into: Callable[[memoryview, int, int], int] = sock.recv_into
        self.send: Callable[[memoryview, int], int] = sock.send
        self.meter = meter
        self.tcp = tcp
        self.peer: Side = self
        self.held: bytes | memoryview | Pipe | None = None
        self.hung_up = False
        self.ended = False
        self.broken = ""
        self.urgent = False
        self.splicing = False
        self.full = 0
        self.lean = 0

    def on_event(self, mask: int) -> None:
        """Take note of what the epoll says, send what is held, read what has come. The common case is three tests."""
        if mask & RARE:
            self._note(mask)
        if self.held is not None and mask & WRITE:
            self.flush()
        if mask & READABLE:
            self.pump()

    def pump(self) -> None:  # noqa: C901,PLR0911,PLR0912 - the hot path: a call of its own per case costs 0.1 us, one per cent of a request
        """Read until there is no more, the peer takes no more, or this turn's share is used up.

        A read shorter than the buffer emptied the queue: reading again just to be told so would cost 1.5 us per
        request. If the FIN was already known to be there, it ends the stream as well (3 us per connection). Neither
        is so around an urgent byte, at which recv(2) stops early.
        """
        peer = self.peer
        if peer.held is not None:
            return
        if self.splicing and splice_turn(self):
            return
        tcp = self.tcp
        buffer = tcp.buffer
        share = tcp.turn_bytes
        while share > 0:
            try:
                count = self.recv_into(buffer, 0, DONT_WAIT)
            except BlockingIOError:
                if self.broken:
                    self.connection.lost(self)
                return
            except OSError as error:
                self.connection.failed(self, error)
                return
            if not count:
                self.connection.ended(self)
                return
            self.meter.bytes += count
            try:
                sent = peer.send(buffer[:count], DONT_WAIT)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.connection.unreachable(peer, error)
                return
            if sent < count:
                peer.held = bytes(buffer[sent:count])
                return
            if count < tcp.buffer_bytes:
                self.full = 0
                if self.urgent:
                    continue
                if self.hung_up:
                    self.connection.ended(self)
                return
            self.full += 1
            share -= count
            if self.full >= tcp.splice_after and not self.urgent and splice_turn(self):
                return
        tcp.reactor.again(self.pump)

    def flush(self) -> None:
        """Send what is held; once all is sent, let the peer be read again."""
        held = self.held
        if self.broken or held is None:
            return
        try:
            if isinstance(held, Pipe):
                done = send_spliced(held, self.sock.fileno())
                if done:
                    self.tcp.pipes.give(held)
            else:
                sent = self.send(memoryview(held), DONT_WAIT)
                done = sent == len(held)
                self.held = memoryview(held)[sent:]
        except BlockingIOError:
            return
        except OSError as error:
            self.connection.unreachable(self, error)
            return
        if done:
            self.held = None
            self.peer.pump()

    def refuse_more(self, reason: str) -> None:
        """Take nothing more for this side, which is dead; what it holds is lost."""
        self.broken = self.broken or reason
        if isinstance(self.held, Pipe):
            self.tcp.pipes.give(self.held)
        self.held = NOTHING

    def abort(self) -> None:
        """End the whole connection: the reactor's way out of a bug in a handler."""
        self.connection.abort()

    def _note(self, mask: int) -> None:
        if mask & HANG_UP:
            self.hung_up = True
        if mask & URGENT:
            self.urgent = True
            self.splicing = False
        if mask & ERROR and not self.broken:
            self.connection.errored(self)
