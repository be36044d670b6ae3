"""From an accepted client to an established connection: which endpoint, how often, how long.

Owns the schedule of connect attempts and what each result teaches the ejector; must not know how bytes move.
Invariant: a client is read only once its connection stands, so what it sends first is never lost between two
attempts; until the first failure its socket is not even registered, which saves a system call and an event.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final

from uproxy.dataplane.accepting import EXHAUSTED
from uproxy.dataplane.connection import Connection
from uproxy.dataplane.counters import count
from uproxy.dataplane.reactor import CLOSED, ERROR, WRITE
from uproxy.dataplane.relay import EVERYTHING
from uproxy.dataplane.resetting import reset

if TYPE_CHECKING:
    import _socket

    from uproxy.core.model import Endpoint
    from uproxy.dataplane.tcp import TcpListener

FAILED: Final = ERROR | CLOSED
TIMEOUT: Final = "timeout"
NONE_YET: Final[tuple[Endpoint, ...]] = ()
# Our own lack of a source port says nothing about the endpoint.
NOT_THE_ENDPOINTS_FAULT: Final = frozenset({errno.EADDRNOTAVAIL})


class Dial:
    """One client that waits for its upstream connection.

    A refused, reset or unreachable attempt moves on to another endpoint at once. One that is not answered in time
    does as well, and uses up an entry of connect_timeouts; it may be repeated when there is no other endpoint.
    endpoint: the one that is being tried. connection: makes what the client gets.
    """

    __slots__ = ("_address", "_client", "_listener", "_refused", "_seen", "_slow", "_tcp", "_timeouts", "_upstream", "endpoint")
    connection: ClassVar[type[Connection]] = Connection

    def __init__(self, listener: TcpListener, client: _socket.socket, address: str) -> None:
        self._listener = listener
        self._tcp = listener.tcp
        self._client = client
        self._address = address
        self.endpoint: Endpoint | None = None
        self._upstream: _socket.socket | None = None
        self._refused = self._slow = NONE_YET
        self._timeouts = self._seen = 0

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt waits for its result."""
        return self._upstream is not None

    def start(self) -> None:
        """Begin an attempt; on an immediate failure the next one, until one is under way or there is none left."""
        tcp, listener = self._tcp, self._listener
        while True:
            endpoint = self.endpoint = self._choose()
            if endpoint is None:
                self._give_up()
                return
            try:
                upstream = tcp.upstreams.open(endpoint, self._address, keep_client_address=listener.keep_client_address)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._out_of(error)
                    return
                self._refuse(error.errno or 0)
                continue
            self._upstream = upstream
            try:
                tcp.reactor.add(upstream.fileno(), EVERYTHING, self.on_upstream)
            except OSError as error:
                self._out_of(error)
                return
            tcp.attempts[self._timeouts].add(self, tcp.reactor.now)
            break
        if self._refused and not self._seen:
            self._watch_client()

    def on_upstream(self, mask: int) -> None:
        """Take the result of the attempt that is under way."""
        upstream = self._upstream
        if upstream is None:
            return
        if mask & FAILED:
            error = upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._drop_upstream()
            self._refuse(error)
            self.start()
            return
        if self.endpoint is not None:
            self._tcp.ejector.succeeded(self.endpoint)
        self._tcp.attempts[self._timeouts].discard(self)
        self._upstream = None
        connection = self.connection(self._listener, self._client, upstream, self.endpoint)
        self._listener.hand_over(self, connection)
        try:
            connection.start(self._seen, mask)
        except OSError as error:
            count(self._tcp.counters.connections_reset, errno.errorcode.get(error.errno or 0, "unknown"))
            connection.abort()

    def on_client(self, mask: int) -> None:
        """Note what the client's socket reports while it waits. A reset means that it is gone; a FIN does not."""
        self._seen |= mask
        if mask & FAILED:
            count(self._tcp.counters.connections_reset, "client_left")
            self.abort()

    def timed_out(self) -> None:
        """Try elsewhere: the endpoint has not answered in time."""
        self._tcp.reactor.tick()
        self._drop_upstream()
        self._failed(TIMEOUT)
        if self.endpoint is not None:
            self._slow = (*self._slow, self.endpoint)
        self._timeouts += 1
        if not self._seen:
            self._watch_client()
        self.start()

    def abort(self) -> None:
        """Reset the client and forget the attempt."""
        self._drop_upstream()
        reset(self._tcp.reactor, self._client)
        self._listener.forget(self, 2)

    def _choose(self) -> Endpoint | None:
        """Give the endpoint to try next, another one each time; an unanswering one again only when there is no other."""
        tcp, balancer = self._tcp, self._listener.balancer
        if self._timeouts >= len(tcp.attempts) or len(self._refused) >= tcp.settings.refused_attempts:
            return None
        now = tcp.reactor.now
        chosen = balancer.pick(self._address, now, self._refused + self._slow)
        if chosen is None and self._slow:
            self._slow = ()
            chosen = balancer.pick(self._address, now, self._refused)
        return chosen

    def _watch_client(self) -> None:
        """From the first failure on, notice when the client leaves."""
        with suppress(OSError):
            self._tcp.reactor.add(self._client.fileno(), EVERYTHING, self.on_client)
            self._seen = WRITE

    def _refuse(self, error: int) -> None:
        """Note that the endpoint, or this node, refused the attempt."""
        if error in NOT_THE_ENDPOINTS_FAULT:
            count(self._tcp.counters.connect_failures, errno.errorcode[error])
        else:
            self._failed(errno.errorcode.get(error, os.strerror(error)))
        if self.endpoint is not None:
            self._refused = (*self._refused, self.endpoint)

    def _failed(self, reason: str) -> None:
        tcp, endpoint = self._tcp, self.endpoint
        count(tcp.counters.connect_failures, reason)
        if endpoint is not None and tcp.ejector.failed(endpoint, tcp.reactor.now):
            tcp.counters.ejections += 1
            tcp.log.warning("endpoint_ejected", endpoint=str(endpoint), service=str(self._listener.service_port), reason=reason)

    def _out_of(self, error: OSError) -> None:
        """Reset this client and let accepting pause: there is nothing to connect with."""
        reason = errno.errorcode.get(error.errno or 0, "unknown")
        count(self._tcp.counters.connections_reset, reason)
        self.abort()
        self._listener.exhausted(reason)

    def _give_up(self) -> None:
        self._tcp.counters.connections_failed += 1
        self.abort()

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if self._timeouts < len(self._tcp.attempts):
                self._tcp.attempts[self._timeouts].discard(self)
            reset(self._tcp.reactor, upstream)
