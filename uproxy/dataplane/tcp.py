"""A TCP listener: its socket, its options, and the connections that came through it.

Owns accepting and the set of what it accepted; must not know how a connection is made or relayed. Invariant:
whatever it accepted is in `connections` until it has ended, also after the listener itself was closed.
"""

from __future__ import annotations

import _socket
import errno
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from uproxy.core.admission import DROP_ALL
from uproxy.core.model import NO_OPTIONS
from uproxy.dataplane.accepting import BUDGET, EXHAUSTED
from uproxy.dataplane.admitting import admit, admit_no_newcomers
from uproxy.dataplane.annotated import AnnotatedConnection, AnnotatedDial
from uproxy.dataplane.connection import Connection
from uproxy.dataplane.counters import count
from uproxy.dataplane.dialing import Dial
from uproxy.dataplane.reactor import READ
from uproxy.dataplane.silence import Silence
from uproxy.dataplane.tcp_sockets import listening_socket, refusal
from uproxy.dataplane.upstream import SOCKET_TYPE
from uproxy.errors import ListenError
from uproxy.socket_filter import attach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uproxy.core.admission import Lists
    from uproxy.core.balance import Balancing
    from uproxy.core.model import Endpoint, ServiceOptions, ServicePortName
    from uproxy.dataplane.context import Binding
    from uproxy.dataplane.resetting import PendingReset
    from uproxy.dataplane.tcp_context import TcpContext

# accept(2): errors of the connection that was to be accepted, already gone; the next one may be fine.
OF_THE_CONNECTION: Final = frozenset({
    errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP,
    errno.ENETUNREACH, errno.ENETDOWN, errno.EPERM, errno.ETIMEDOUT, errno.ECONNRESET,
})  # fmt: skip


class TcpListener:
    """Accepts connections on one binding from its construction (ListenError) until close().

    former: a listener of the same binding whose socket this one takes over, with the connections that wait in it.
    """

    def __init__(
        self, binding: Binding, service_port: ServicePortName, balancer: Balancing, *, keep_client_address: bool,
        tcp: TcpContext, drained: Callable[[TcpListener], None], former: TcpListener | None = None, admitted: Lists = (),
        options: ServiceOptions = NO_OPTIONS,
    ) -> None:  # fmt: skip
        self.binding = binding
        self.service_port = service_port
        self.balancer = balancer
        self.keep_client_address = keep_client_address
        self.admitted = admitted
        self.tcp = tcp
        self.connections: set[Dial | Connection | PendingReset] = set()
        self.options = NO_OPTIONS
        self._dial: type[Dial] = Dial
        self.set_options(options)
        self._drained = drained
        self._batch = tcp.settings.accept_batch
        self._family = socket.AF_INET6 if ":" in binding.key.vip else socket.AF_INET
        self._sock: _socket.socket | None = former.hand_over_socket() if former else listening_socket(binding, tcp, admitted)
        # What socket.accept() calls as well: a bare descriptor, without a socket.socket around it.
        self._accept: Callable[[], tuple[int, tuple[str, int]]] = getattr(self._sock, "_accept")  # noqa: B009 - typeshed does not list it
        if former:
            tcp.reactor.replace(self._sock.fileno(), self.on_event)
            tcp.reactor.modify(self._sock.fileno(), READ)
        else:
            self._register(self._sock)
        self.traffic = tcp.traffic.acquire(service_port)

    def on_event(self, mask: int) -> None:  # noqa: ARG002 - the reactor's signature; a listener only ever becomes readable
        """Accept what waits, at most a batch: the rest is reported again, for this registration is level-triggered."""
        descriptors = self.tcp.descriptors
        for _ in range(self._batch):
            if not descriptors.take(2):
                self.exhausted(BUDGET)
                return
            try:
                descriptor, address = self._accept()
            except OSError as error:
                descriptors.taken -= 2
                if not self._goes_on_after(error):
                    return
                continue
            self._accepted(_socket.socket(self._family, SOCKET_TYPE, socket.IPPROTO_TCP, descriptor), address[0])

    def endpoints_changed(self, still_serving: Iterable[Endpoint] = ()) -> None:  # noqa: ARG002 - the Listener's parameters
        """Let connections that wait for an endpoint have one. Those to endpoints that left may go on, new ones ask the balancer."""
        if self.balancer.endpoints:
            self.tcp.holding.serve(self)

    def set_options(self, options: ServiceOptions) -> None:
        """Give the connections accepted from now on what the Service's annotations ask for; the idle timeout is for open ones, too."""
        before, self.options = self.options, options
        self._dial = Dial if options == NO_OPTIONS else AnnotatedDial
        if options.idle_timeout and options.idle_timeout != before.idle_timeout:
            for connection in self.connections:
                if isinstance(connection, AnnotatedConnection):
                    connection.watch_silence()
                elif isinstance(connection, Connection):
                    Silence(self, connection)

    def admit(self, lists: Lists) -> None:
        """Drop who is not in each of the lists from now on; open connections stay. Raises ListenError."""
        if self._sock is not None and lists != self.admitted:
            try:
                admit(self._sock, lists)
            except OSError as error:
                raise refusal(self.binding, error) from error
            self.admitted = lists

    def finish_handshakes(self) -> None:
        """Let no handshake begin any more; who has begun one comes in. What the kernel has no room for is no error: see admit()."""
        if self._sock is not None:
            with suppress(OSError):
                admit_no_newcomers(self._sock, self.admitted)

    def accept_waiting(self) -> None:
        """Accept all who are in by now, however many: to their clients they are connected already. Called outside of a turn."""
        self.tcp.reactor.tick()
        before = -1
        while self._sock is not None and before != self.traffic.accepted:
            before = self.traffic.accepted
            self.on_event(READ)

    def exhausted(self, reason: str) -> None:
        """Pause accepting because of `reason`, unless the listener is closed."""
        if self._sock is not None:
            self.tcp.gate.pause(self, reason)

    def pause(self) -> None:
        """Cause no events until resume()."""
        if self._sock is not None:
            self.tcp.reactor.modify(self._sock.fileno(), 0)

    def resume(self) -> None:
        """Accept again."""
        if self._sock is not None:
            self.tcp.reactor.modify(self._sock.fileno(), READ)

    def close(self) -> int:
        """Stop listening at once; give the number of connections that go on, those included that had not been accepted yet."""
        sock = self._sock
        if sock is not None:
            self._accept_the_rest(sock)
        self.tcp.holding.refuse(self)
        if sock is not None:
            self._stop_accepting()
            self.tcp.reactor.close_now(sock)
            self.tcp.descriptors.give(1)
        return len(self.connections)

    def hand_over_socket(self) -> _socket.socket:
        """Give the listening socket to a successor; connections that were accepted stay with this listener."""
        sock = self._sock
        if sock is None:
            raise ListenError(f"{self.binding.key}: the listener is closed")
        self.tcp.holding.refuse(self)
        self._stop_accepting()
        return sock

    def _accept_the_rest(self, sock: _socket.socket) -> None:
        """Let nobody else in and accept who is: closing the socket would reset them."""
        with suppress(OSError):  # without the filter somebody may still come between the last accept and the close
            attach(sock, DROP_ALL)
        self.accept_waiting()

    def _stop_accepting(self) -> None:
        self._sock = None
        self.tcp.gate.forget(self)
        if not self.connections:
            self._end()

    def abort_all(self) -> None:
        """Reset every connection."""
        for connection in tuple(self.connections):
            connection.abort()

    def hand_over(self, former: Dial | Connection, following: Connection | PendingReset) -> None:
        """Replace what stands for a connection by what stands for it from now on."""
        self.connections.discard(former)
        self.connections.add(following)

    def forget(self, connection: Dial | Connection | PendingReset, descriptors: int) -> None:
        """Take note that a connection has ended and gave back this many descriptors."""
        self.connections.discard(connection)
        self.traffic.active -= 1
        self.tcp.descriptors.give(descriptors)
        if self._sock is None and not self.connections:
            self._end()

    def _register(self, sock: _socket.socket) -> None:
        try:
            self.tcp.reactor.add(sock.fileno(), READ, self.on_event)
        except OSError as error:
            sock.close()
            self.tcp.descriptors.give(1)
            raise refusal(self.binding, error) from error

    def _accepted(self, client: _socket.socket, address: str) -> None:
        self.traffic.accepted += 1
        self.traffic.active += 1
        dial = self._dial(self, client, address)
        self.connections.add(dial)
        try:
            dial.start()
        except Exception as error:
            self.tcp.log.error("connection_handler_failed", exc_info=error)  # noqa: TRY400 - our Log has no exception()
            dial.abort()

    def _goes_on_after(self, error: OSError) -> bool:
        """Tell whether the next accept may succeed; where it may not, pause."""
        if error.errno == errno.EAGAIN:
            return False
        if error.errno in OF_THE_CONNECTION:
            count(self.tcp.counters.accept_errors, errno.errorcode[error.errno])
            return True
        reason = errno.errorcode.get(error.errno or 0, "unknown")
        if error.errno not in EXHAUSTED:
            count(self.tcp.counters.accept_errors, reason)
        self.exhausted(reason)
        return False

    def _end(self) -> None:
        self.tcp.traffic.release(self.service_port)
        self._drained(self)
