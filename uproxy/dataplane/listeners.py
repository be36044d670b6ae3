"""The data plane: which listeners are open, what they carry, and what still drains.

Owns every listener by its RouteKey; delegates to tcp.py and udp.py how it works. Knows nothing of Services and
rules. Invariant: a RouteKey has at most one open listener; closed ones are kept until their last connection ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uproxy.core.model import NO_OPTIONS, Protocol
from uproxy.dataplane.draining import Draining
from uproxy.dataplane.tcp import TcpListener
from uproxy.dataplane.tcp_context import TcpContext
from uproxy.dataplane.udp import UdpListener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uproxy.core.admission import Lists
    from uproxy.core.balance import Balancing
    from uproxy.core.model import Endpoint, ObjectKey, RouteKey, ServiceOptions, ServicePortName
    from uproxy.dataplane.connection import Connection
    from uproxy.dataplane.context import Binding, Context, Listener
    from uproxy.dataplane.counters import Traffic
    from uproxy.dataplane.dialing import Dial
    from uproxy.dataplane.resetting import PendingReset


class Dataplane:
    """Opens, changes and closes listeners. on_drained(key): the last connection of a closed key's listeners has ended.

    drain(left): endpoints have left a Service whose connections are not to stay with them, or are listed again.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tcp = TcpContext(context)
        self._open: dict[RouteKey, Listener] = {}
        self._draining: dict[RouteKey, set[TcpListener]] = {}
        self.on_drained: Callable[[RouteKey], None] = _nobody_asks
        self._leaving = Draining(context.loop, context.counters, self._connections_of)
        self.drain = self._leaving.note

    def on_held(self, tell: Callable[[ServicePortName], None]) -> None:
        """Have tell(service_port) called whenever a connection begins to wait for an endpoint."""
        self._tcp.holding.on_held = tell

    def open(
        self, binding: Binding, service_port: ServicePortName, balancer: Balancing, *,
        keep_client_address: bool, admitted: Lists = (), options: ServiceOptions = NO_OPTIONS,
    ) -> None:  # fmt: skip
        """Listen on a binding whose key has no open listener; drop who is not admitted. Raises ListenError: address, reason, remedy."""
        if binding.key.protocol is Protocol.TCP:
            self._open[binding.key] = TcpListener(
                binding, service_port, balancer, keep_client_address=keep_client_address,
                tcp=self._tcp, drained=self._drained, admitted=admitted, options=options,
            )  # fmt: skip
        else:
            self._open[binding.key] = UdpListener(
                binding, service_port, balancer, keep_client_address=keep_client_address, context=self._context, admitted=admitted
            )

    def update(
        self, key: RouteKey, balancer: Balancing, *, keep_client_address: bool, admitted: Lists = (),
        options: ServiceOptions = NO_OPTIONS, still_serving: Iterable[Endpoint] = (),
    ) -> None:  # fmt: skip
        """Take note that what is behind an open listener changed, perhaps whose it is.

        UDP flows end now whose endpoint is neither the balancer's nor among still_serving.
        Raises ListenError when the kernel does not take the lists of who is admitted; the former ones hold then.
        """
        listener = self._open[key]
        listener.admit(admitted)
        if listener.service_port != balancer.service_port:
            self._pass_on(listener, balancer, keep_client_address=keep_client_address, options=options)
            return
        if isinstance(listener, TcpListener):
            listener.set_options(options)
        listener.balancer = balancer
        listener.keep_client_address = keep_client_address
        listener.endpoints_changed(still_serving)

    def fall_silent(self, key: RouteKey, admitted: Lists) -> None:
        """Drop who is not admitted from now on, while who is in already still gets what is behind the listener now.

        For TCP: a datagram that waits has been promised nothing. Raises ListenError as update() does.
        """
        listener = self._open[key]
        listener.admit(admitted)
        if isinstance(listener, TcpListener):
            listener.accept_waiting()

    def _pass_on(self, former: Listener, balancer: Balancing, *, keep_client_address: bool, options: ServiceOptions) -> None:
        """Let another ServicePort have the address. TCP: nothing that waits to be accepted is lost."""
        if not isinstance(former, TcpListener):
            self.close(former.binding.key)
            self.open(former.binding, balancer.service_port, balancer, keep_client_address=keep_client_address, admitted=former.admitted)
            return
        key = former.binding.key
        if former.connections:
            self._draining.setdefault(key, set()).add(former)
        self._open[key] = TcpListener(
            former.binding, balancer.service_port, balancer, keep_client_address=keep_client_address,
            tcp=self._tcp, drained=self._drained, former=former, admitted=former.admitted, options=options,
        )  # fmt: skip

    def close(self, key: RouteKey) -> int:
        """Close the listener; give the number of TCP connections that go on by themselves. UDP flows end.

        A key without an open listener is no error: the process may have begun to end while a round was waiting for the kernel.
        """
        listener = self._open.pop(key, None)
        if listener is not None and listener.close() and isinstance(listener, TcpListener):
            self._draining.setdefault(key, set()).add(listener)
        return self.connections(key)

    def connections(self, key: RouteKey) -> int:
        """Count the TCP connections that came in by this key, the open listener's and earlier ones'."""
        listeners = set(self._draining.get(key, ()))
        listener = self._open.get(key)
        if isinstance(listener, TcpListener):
            listeners.add(listener)
        return sum(len(one.connections) for one in listeners)

    @property
    def keys(self) -> Iterable[RouteKey]:
        """The keys that have an open listener."""
        return self._open.keys()

    @property
    def open_connections(self) -> int:
        """The number of TCP connections in all."""
        return sum(len(listener.connections) for listener in self._tcp_listeners())

    def finish_handshakes(self) -> None:
        """Let no TCP connection begin any more, while those whose handshake is under way come in."""
        for listener in self._open.values():
            if isinstance(listener, TcpListener):
                listener.finish_handshakes()

    def stop_listening(self) -> None:
        """Close every listener; TCP connections go on, UDP flows end."""
        for key in tuple(self._open):
            self.close(key)

    def abort_all(self) -> None:
        """Reset every TCP connection."""
        for listener in self._tcp_listeners():
            listener.abort_all()

    def shut_down(self) -> None:
        """End everything: listeners, connections, flows, timers. The reactor is its owner's to stop."""
        self.stop_listening()
        self._leaving.clear()
        self.abort_all()
        self._tcp.close()
        self._context.flows.stop()

    def traffic(self) -> Iterable[tuple[ServicePortName, Traffic]]:
        """Give what each ServicePort with a listener or a connection has carried."""
        return tuple(self._context.traffic)

    def totals(self) -> Traffic:
        """Give what everything together has ever carried."""
        return self._context.traffic.totals()

    def note_kernel_drops(self) -> None:
        """Bring the count of datagrams that the kernel dropped up to date: one system call per UDP listener, for who scrapes."""
        for listener in self._open.values():
            if isinstance(listener, UdpListener):
                listener.note_kernel_drops()

    def _tcp_listeners(self) -> list[TcpListener]:
        found = [listener for listener in self._open.values() if isinstance(listener, TcpListener)]
        return found + [listener for listeners in self._draining.values() for listener in listeners]

    def _connections_of(self, service: ObjectKey) -> list[Dial | Connection | PendingReset]:
        """Give every connection of a Service."""
        theirs = (listener for listener in self._tcp_listeners() if listener.service_port[:2] == service)
        return [connection for listener in theirs for connection in listener.connections]

    def _drained(self, listener: TcpListener) -> None:
        key = listener.binding.key
        draining = self._draining.get(key)
        if draining is None:
            return
        draining.discard(listener)
        if not draining:
            del self._draining[key]
            if key not in self._open:
                self.on_drained(key)


def _nobody_asks(key: RouteKey) -> None:
    """Ignore that a key has drained, until the reconciler says what to do then."""
