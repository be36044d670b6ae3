"""Connections of a Service that asks for more than relaying, by its annotations (core/annotations.py).

Owns what happens at their beginning and end; the bytes between move as everybody's do. A listener makes these instead
of a Dial and a Connection while its Service has such annotations, so that nobody else's connections cost anything.
Invariant: what was told to Loads as begun is told as ended, exactly once.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from uproxy.dataplane.connection import Connection
from uproxy.dataplane.counters import count
from uproxy.dataplane.dialing import NONE_YET, Dial
from uproxy.dataplane.proxy_protocol import header
from uproxy.dataplane.reactor import HANG_UP
from uproxy.dataplane.silence import Silence

if TYPE_CHECKING:
    import _socket

    from uproxy.core.loads import Loads
    from uproxy.core.model import Endpoint
    from uproxy.dataplane.tcp import TcpListener


class AnnotatedDial(Dial):
    """A client that may be one too many, may have to wait for an endpoint, and counts where it goes."""

    __slots__ = ("_counted", "_loads", "_within_limit")

    def __init__(self, listener: TcpListener, client: _socket.socket, address: str) -> None:
        super().__init__(listener, client, address)
        self._loads = listener.balancer.loads
        self._counted: Endpoint | None = None
        self._within_limit = False

    def start(self) -> None:
        """Begin an attempt, unless the ServicePort has all the connections it may have: this one is counted already."""
        listener = self._listener
        if not self._within_limit:
            limit = listener.options.max_connections
            if limit and listener.traffic.active > limit:
                self._tcp.counters.connections_over_limit += 1
                self.abort()
                return
            self._within_limit = True
        super().start()

    def has_endpoint(self) -> bool:
        """Tell whether there is an endpoint for this client."""
        return self._listener.balancer.offers(self._address)

    def go_on(self) -> None:
        """Begin anew: there is an endpoint at last."""
        self._tcp.reactor.tick()
        self._refused = self._slow = NONE_YET
        self._timeouts = 0
        try:
            self.start()
        except Exception as error:
            # The reconciler's round is no place for a bug that concerns one client.
            self._tcp.log.error("connection_handler_failed", exc_info=error)  # noqa: TRY400 - our Log has no exception()
            self.abort()

    def on_client(self, mask: int) -> None:
        """Note what the client's socket reports while it waits; one that gives up waiting for an endpoint is let go."""
        super().on_client(mask)
        if mask & HANG_UP and self._tcp.holding.holds(self._listener, self):
            self._let_go_if_left()

    def abort(self) -> None:
        """Reset the client and forget the attempt."""
        self._tcp.holding.discard(self._listener, self)
        self._uncount()
        super().abort()

    def connection(  # type: ignore[override]  # a method where Dial has a class: both are called with these
        self, listener: TcpListener, client: _socket.socket, upstream: _socket.socket, endpoint: Endpoint | None
    ) -> Connection:
        """Make the connection, which is counted in place of this attempt."""
        self._counted = None
        return AnnotatedConnection(listener, client, upstream, endpoint, self._loads)

    def _choose(self) -> Endpoint | None:
        self._uncount()
        chosen = super()._choose()
        if chosen is not None:
            self._counted = chosen
            self._loads.began(chosen)
            if self._listener.options.least_connections:
                self._tcp.counters.least_connections += 1
        return chosen

    def _uncount(self) -> None:
        if self._counted is not None:
            self._loads.ended(self._counted)
            self._counted = None

    def _give_up(self) -> None:
        seconds = self._listener.options.hold
        if not seconds or self.has_endpoint() or not self._tcp.holding.hold(self._listener, self, seconds):
            super()._give_up()
        elif not self._seen:
            self._watch_client()
        elif self._seen & HANG_UP:
            self._let_go_if_left()

    def _let_go_if_left(self) -> None:
        """End it if the client has closed its direction without a byte, as what only tries whether a port is open does.

        Whoever has sent something may wait for the answer with its direction closed.
        """
        try:
            has_left = not self._client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            has_left = True
        if has_left:
            self.abort()


class AnnotatedConnection(Connection):
    """A connection that is counted, that may begin with a PROXY header, and that may end for silence."""

    __slots__ = ("_loads", "_silence")

    def __init__(
        self, listener: TcpListener, client: _socket.socket, upstream: _socket.socket, endpoint: Endpoint | None, loads: Loads
    ) -> None:
        super().__init__(listener, client, upstream, endpoint)
        self._loads = loads
        self._silence: Silence | None = None

    def start(self, seen: int, mask: int) -> None:
        """Send the header, then relay. Raises OSError also when the client has left before its port was asked for."""
        options = self._listener.options
        if options.proxy_protocol:
            self._send_header(options.proxy_protocol)
        if options.idle_timeout:
            self.watch_silence()
        super().start(seen, mask)

    def _send_header(self, version: int) -> None:
        """Send it before anything else; what the socket does not take waits in front of the client's first bytes."""
        key = self._listener.binding.key
        first = header(version, self.client.sock.getpeername()[:2], (key.vip, key.port))
        count(self._tcp.counters.proxy_headers, f"v{version}")
        try:
            sent = self.upstream.sock.send(first)
        except BlockingIOError:
            sent = 0
        if sent < len(first):
            self.upstream.held = first[sent:]

    def watch_silence(self) -> None:
        """Let it end for silence after the time that the Service's options say now."""
        if self._silence is not None:
            self._silence.stop()
        self._silence = Silence(self._listener, self)

    def _release(self) -> None:
        if self._silence is not None:
            self._silence.stop()
            self._silence = None
        if self.endpoint is not None:
            self._loads.ended(self.endpoint)
        super()._release()
