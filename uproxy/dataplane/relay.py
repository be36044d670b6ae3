"""The two sides of an established TCP connection: what arrives at one is sent to the other.

Owns the hot path: one event, one read, one write, no allocation but the bytes between them. Knows how bytes
move and what they meet (back-pressure, end of stream, error); what follows from an end or an error is the
connection's to decide. Invariants: a side is not read while its peer holds bytes that could not be sent yet; both
sockets are non-blocking.
"""

from __future__ import annotations

from os import read, write
from typing import TYPE_CHECKING, Final

from uproxy.dataplane.pipes import Pipe
from uproxy.dataplane.reactor import CLOSED, EDGE, ERROR, HANG_UP, READ, URGENT, WRITE
from uproxy.dataplane.splicing import send_spliced, splice_turn

if TYPE_CHECKING:
    import _socket

    from uproxy.dataplane.connection import Connection
    from uproxy.dataplane.counters import Meter
    from uproxy.dataplane.tcp_context import TcpContext

# Every socket is registered once, for everything, and never modified.
EVERYTHING: Final = READ | WRITE | HANG_UP | URGENT | EDGE
RARE: Final = HANG_UP | URGENT | ERROR | CLOSED
READABLE: Final = READ | HANG_UP | ERROR | CLOSED
# What an event nearly always says: something has come, and there is room as ever.
READY: Final = READ | WRITE
# What one read of a small flow asks for: more than most messages have. A flow that fills it is read into the big buffer.
SMALL_BYTES: Final = 16384
NOTHING: Final = b""


class Side:
    """One of a connection's two sockets, with what waits to be sent to it.

    held: bytes for this side that its socket did not take yet; NOTHING on a side that takes no more, ever.
    hung_up: a FIN is in its receive queue. ended: that FIN has been read. broken: why its socket is dead.
    urgent: the peer sent an urgent byte. full: full buffers read in a row. lean: small spliced turns in a row.
    is_plain: what comes is little and holds nothing urgent, as far as one has seen.
    """

    __slots__ = (
        "broken", "connection", "descriptor", "ended", "full", "held", "hung_up", "is_plain", "lean", "meter", "peer", "sock", "splicing",
        "tcp", "urgent",
    )  # fmt: skip

    def __init__(self, connection: Connection, sock: _socket.socket, meter: Meter, tcp: TcpContext) -> None:
        self.connection = connection
        self.sock = sock
        self.descriptor = sock.fileno()
        self.meter = meter
        self.tcp = tcp
        self.peer: Side = self
        self.held: bytes | memoryview | Pipe | None = None
        self.hung_up = False
        self.ended = False
        self.broken = ""
        self.urgent = False
        self.is_plain = True
        self.splicing = False
        self.full = 0
        self.lean = 0

    def on_event(self, mask: int) -> None:
        """Pass on what has come. Nearly always it is little and leaves whole; whatever is otherwise has a function of its own.

        os.read and os.write instead of the sockets' methods, which parse their arguments the slow way: 0.4 us per event,
        5 % of a request, and 1,100 of its instructions. A read shorter than asked for emptied the queue: reading
        again just to be told so would cost 1.5 us per request.
        """
        peer = self.peer
        if mask != READY or not self.is_plain or self.held is not None or peer.held is not None:
            self.on_other_event(mask)
            return
        try:
            data = read(self.descriptor, SMALL_BYTES)
        except OSError as error:
            self._not_read(error)
            return
        if not data:
            self.connection.ended(self)
            return
        size = len(data)
        self.meter.bytes += size
        try:
            sent = write(peer.descriptor, data)
        except OSError as error:
            self._not_written(data, error)
            return
        if sent < size:
            peer.held = data[sent:]
        elif size == SMALL_BYTES:
            self.pump()

    def on_other_event(self, mask: int) -> None:
        """Take note of what the epoll says, send what is held, read what has come."""
        if mask & RARE:
            self._note(mask)
        if self.held is not None and mask & WRITE:
            self.flush()
        if mask & READABLE:
            self.pump()

    def pump(self) -> None:
        """Read until there is no more, the peer takes no more, or this turn's share is used up.

        If the FIN was already known to be there, a short read ends the stream as well (3 us per connection). Around an
        urgent byte, at which recv(2) stops early, it means nothing.
        """
        peer = self.peer
        if peer.held is not None or (self.splicing and splice_turn(self)):
            return
        tcp, sock = self.tcp, self.sock
        buffer = tcp.buffer
        share = tcp.turn_bytes
        while share > 0:
            try:
                count = sock.recv_into(buffer)
            except OSError as error:
                self._not_read(error)
                return
            if not count:
                self.connection.ended(self)
                return
            self.meter.bytes += count
            if not self._pass_on(buffer[:count]):
                return
            if count < tcp.buffer_bytes:
                self.full = 0
                if self.urgent:
                    continue
                self.is_plain = count < SMALL_BYTES
                if self.hung_up:
                    self.connection.ended(self)
                return
            self.is_plain = False
            self.full += 1
            share -= count
            if self.full >= tcp.splice_after and not self.urgent and splice_turn(self):
                return
        tcp.reactor.again(self.pump)

    def _pass_on(self, data: memoryview) -> bool:
        """Send to the peer; False when it did not take all, which it holds then."""
        try:
            sent = self.peer.sock.send(data)
        except OSError as error:
            self._not_written(data, error)
            return False
        if sent < len(data):
            self.peer.held = bytes(data[sent:])
            return False
        return True

    def _not_read(self, error: OSError) -> None:
        """Go on after a read that failed: there was nothing, or the socket is dead."""
        if not isinstance(error, BlockingIOError):
            self.connection.failed(self, error)
        elif self.broken:
            self.connection.lost(self)

    def _not_written(self, data: bytes | memoryview, error: OSError) -> None:
        """Let the peer hold what its socket had no room for; if the socket is dead there is nobody to hold it for."""
        if isinstance(error, BlockingIOError):
            self.peer.held = bytes(data)
        else:
            self.connection.unreachable(self.peer, error)

    def flush(self) -> None:
        """Send what is held; once all is sent, let the peer be read again."""
        held = self.held
        if self.broken or held is None:
            return
        try:
            if isinstance(held, Pipe):
                done = send_spliced(held, self.descriptor)
                if done:
                    self.tcp.pipes.give(held)
            else:
                sent = self.sock.send(held)
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
            self.is_plain = False
            self.splicing = False
        if mask & ERROR and not self.broken:
            self.connection.errored(self)
