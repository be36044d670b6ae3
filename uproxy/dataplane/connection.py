"""An established TCP connection: how its two sides end.

Owns half-close, resets and the release of everything a connection has; must not know how it came about or how
bytes move. Invariant: a connection that has ended holds no descriptor, no pipe and no reference cycle, and its
listener has been told exactly once.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from uproxy.dataplane.counters import count
from uproxy.dataplane.pipes import Pipe
from uproxy.dataplane.reactor import READ, WRITE
from uproxy.dataplane.relay import EVERYTHING, NOTHING, READY, Side
from uproxy.dataplane.resetting import PendingReset, is_sent, reset

if TYPE_CHECKING:
    import _socket

    from uproxy.core.model import Endpoint
    from uproxy.dataplane.tcp import TcpListener


# What the kernel makes of a reset that follows a FIN (tcp_reset of net/ipv4/tcp_input.c): the peer gets both as well.
RESET_AFTER_FIN: Final = "EPIPE"


def name_of(error: OSError) -> str:
    """Give an error's symbolic name: the reason under which it is counted."""
    return errno.errorcode.get(error.errno or 0, "unknown")


class Connection:
    """A client's socket and an endpoint's, both connected. Exactly two descriptors, six while bytes wait in pipes."""

    __slots__ = ("_listener", "_tcp", "client", "endpoint", "upstream")
    client: Side
    upstream: Side

    def __init__(self, listener: TcpListener, client: _socket.socket, upstream: _socket.socket, endpoint: Endpoint | None) -> None:
        self._listener = listener
        self.endpoint = endpoint
        self._tcp = listener.tcp
        traffic = listener.traffic
        self.client = Side(self, client, traffic.upload, self._tcp)
        self.upstream = Side(self, upstream, traffic.download, self._tcp)
        self.client.peer = self.upstream
        self.upstream.peer = self.client

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.client.peer is not _GONE

    def start(self, seen: int, mask: int) -> None:
        """Begin to relay; the upstream socket is registered already, and mask is what it has reported by now.

        seen: what the client's socket has reported; 0: it is not registered yet. Raises OSError if the epoll has
        no room. What the client has sent meanwhile goes out with the handshake's ACK. If it has sent nothing the
        server may be the one to speak first, and waits for that ACK: switching TCP_QUICKACK on sends it (tcp(7)).
        """
        client, upstream = self.client, self.upstream
        reactor = self._tcp.reactor
        client.sock.settimeout(0)
        self._tcp.settling.add(self)
        reactor.replace(upstream.descriptor, upstream.on_event)
        before = client.meter.bytes
        if seen:
            reactor.replace(client.descriptor, client.on_event)
            client.on_event(seen | READ)
        else:
            client.on_event(READY)
        if client.meter.bytes == before and client.peer is upstream:
            upstream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if mask != WRITE:
            upstream.on_event(mask)
        if not seen and client.peer is upstream:
            reactor.add(client.descriptor, EVERYTHING, client.on_event)

    def ended(self, side: Side) -> None:
        """Pass the end of side's stream on: every byte before it has been sent. The other direction lives on."""
        if side.ended:
            return
        if side.broken:
            if side.broken == RESET_AFTER_FIN:
                with suppress(OSError):
                    side.peer.sock.shutdown(socket.SHUT_WR)
            self.lost(side)
            return
        side.ended = True
        peer = side.peer
        if peer.ended:
            # Nothing is unread in either: close() sends the FIN that is still due, and no reset.
            self._finish()
            return
        try:
            peer.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.unreachable(peer, error)
            return
        self._tcp.half_closed.add(self, self._tcp.reactor.now)

    def errored(self, side: Side) -> None:
        """Take note that side's socket is dead; what arrived before is still read from it and passed on."""
        error = side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error:
            return
        side.refuse_more(errno.errorcode.get(error, "unknown"))
        if side.ended or side.peer.broken:
            self.lost(side)

    def unreachable(self, side: Side, error: OSError) -> None:
        """Take note that nothing can be sent to side any more; what has come from it is still read and passed on."""
        side.refuse_more(name_of(error))
        if side.ended or side.peer.broken:
            self.lost(side)
        else:
            side.pump()

    def failed(self, side: Side, error: OSError) -> None:
        """End the connection because side's socket says so: a reset on one side resets the other."""
        side.broken = name_of(error)
        self.lost(side)

    def lost(self, side: Side) -> None:
        """End the connection because side is dead and all it ever sent has been read: the peer gets that, then a reset."""
        tcp, peer = self._tcp, side.peer
        if peer is _GONE:
            return
        count(tcp.counters.connections_reset, side.broken)
        side.refuse_more(side.broken)
        tcp.reactor.close(side.sock)
        held, sock = peer.held, peer.sock
        if held is NOTHING or (held is None and is_sent(sock)):
            self._release()
            reset(tcp.reactor, sock)
            self._listener.forget(self, 2)
        else:
            peer.held = None
            self._release()
            tcp.descriptors.give(1)
            self._listener.hand_over(self, PendingReset(self._listener, sock, held))

    def abort(self) -> None:
        """Reset both sides now; what has not been sent is lost."""
        if self.client.peer is _GONE:
            return
        reset(self._tcp.reactor, self.client.sock)
        reset(self._tcp.reactor, self.upstream.sock)
        self._release()
        self._listener.forget(self, 2)

    def _finish(self) -> None:
        self._tcp.reactor.close(self.client.sock)
        self._tcp.reactor.close(self.upstream.sock)
        self._release()
        self._listener.forget(self, 2)

    def _release(self) -> None:
        """Give back pipes, leave the sweep, and break the reference cycle: nothing is left for the garbage collector."""
        tcp = self._tcp
        tcp.half_closed.discard(self)
        tcp.settling.discard(self)
        for side in (self.client, self.upstream):
            if side.held and isinstance(side.held, Pipe):
                tcp.pipes.give(side.held)
            side.held = NOTHING
            side.peer = _GONE
            side.connection = _ENDED


# What the sides of a connection that has ended refer to: a peer that holds bytes for ever, so that nothing is read for
# it, and a connection that has ended. Without them each would have to be asked for None on the hot path.
_GONE: Final = Side.__new__(Side)
_ENDED: Final = Connection.__new__(Connection)
_GONE.held = NOTHING
_GONE.descriptor = -1
_GONE.broken = ""
_GONE.peer = _GONE
_GONE.connection = _ENDED
_ENDED.client = _ENDED.upstream = _GONE
