"""UDP: one socket per listener, one flow with a connected socket of its own per client.

Owns the listeners' sockets, the flows, and what becomes of each datagram. Must not know how endpoints are
chosen (balance), in which order flows end (flows) or what addresses the upstream sockets have (udp_sockets).
Replies leave through the listener's socket, so they come from the address that the client sent to. Invariant:
every flow is in the flow table exactly as long as its socket is open; a datagram is relayed whole, an empty
one too, or counted as dropped; the error of one flow changes nothing for another.
"""

from __future__ import annotations

import errno
import os
from os import write
from typing import TYPE_CHECKING, Final

from uproxy.dataplane.admitting import admit
from uproxy.dataplane.reactor import READ
from uproxy.dataplane.udp_flow import LARGEST, REFUSED, Flow
from uproxy.dataplane.udp_sockets import OUT_OF_ROOM, connect, kernel_drops, listening_socket
from uproxy.errors import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uproxy.core.admission import Lists
    from uproxy.core.balance import Balancing
    from uproxy.core.model import Endpoint, ServicePortName
    from uproxy.dataplane.context import Binding, Context
    from uproxy.dataplane.udp_flow import Client

# What an ICMP error about an earlier datagram of a connected socket becomes (udp(7), icmp_err_convert of the kernel):
# nobody listens there, or the way there is closed. Another endpoint may do better.
REFUSALS: Final = frozenset({
    errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENONET, errno.ENOPROTOOPT, errno.EPROTO, errno.EACCES,
})  # fmt: skip


class UdpListener:
    """The listener of one address and port of a ServicePort, and its flows. Listens from its construction on (ListenError).

    balancer and keep_client_address may be replaced at any time; flows that exist stay as they are, but see
    endpoints_changed().
    """

    def __init__(
        self, binding: Binding, service_port: ServicePortName, balancer: Balancing, *, keep_client_address: bool,
        context: Context, admitted: Lists = (),
    ) -> None:  # fmt: skip
        self.binding = binding
        self.balancer = balancer
        self.keep_client_address = keep_client_address
        self.reactor = context.reactor
        self.touch_unanswered: Callable[[Flow], None] = context.flows.touch_unanswered
        self._context = context
        self.service_port = service_port
        self.batch = context.config.udp.batch
        self._flows: dict[Client, Flow] = {}
        self._living = 0
        self._kernel_drops = 0
        self._closed = False
        self.admitted = admitted
        self._sock = listening_socket(binding, context.config.udp.receive_buffer, admitted)
        try:
            self.reactor.add(self._sock.fileno(), READ, self._on_readable)
        except OSError as error:
            self._sock.close()
            raise ListenError(f"{binding.key}: cannot be watched: {error.strerror}") from error
        self._receive: Callable[[int], tuple[bytes, Client]] = self._sock.recvfrom
        self.reply: Callable[[bytes, Client], int] = self._sock.sendto
        self.traffic = context.traffic.acquire(service_port)
        self.sent = self.traffic.download

    def endpoints_changed(self, still_serving: Iterable[Endpoint] = ()) -> None:
        """End the flows whose endpoint serves no more: their clients' next datagrams go elsewhere from now on."""
        staying = frozenset(self.balancer.endpoints).union(still_serving)
        leaving = [flow for flow in self._flows.values() if flow.endpoint not in staying]
        for flow in leaving:
            del self._flows[flow.client]
        self._context.flows.end_all(leaving, "endpoint_removed")

    def admit(self, lists: Lists) -> None:
        """Drop who is not in each of the lists from now on, also the clients of open flows. Raises ListenError."""
        if lists != self.admitted:
            self.note_kernel_drops()
            try:
                admit(self._sock, lists)
            except OSError as error:
                raise ListenError(f"{self.binding.key}: the list of who is admitted: {error.strerror}") from error
            self.admitted = lists

    def close(self) -> int:
        """Stop listening at once and end all flows; no connection stays open. Never called by a handler of the reactor.

        Outside a turn no event waits for the descriptor, so it is closed here and the address is free again.
        """
        self.note_kernel_drops()
        self._closed = True
        self.reactor.close(self._sock)
        os.close(self._sock.detach())
        if not self._living:
            self._context.traffic.release(self.service_port)
        leaving = tuple(self._flows.values())
        self._flows.clear()
        self._context.flows.end_all(leaving, "listener_closed")
        return 0

    def note_kernel_drops(self) -> None:
        """Count what the kernel has dropped at the listener since the last call: one system call, for who scrapes.

        It has one number for datagrams that found the receive buffer full and for those of clients who are not admitted.
        """
        drops = kernel_drops(self._sock)
        self._count_drops("not_admitted" if self.admitted else "listener_buffer_full", (drops - self._kernel_drops) & 0xFFFFFFFF)
        self._kernel_drops = drops

    def _on_readable(self, _mask: int) -> None:
        """Take what has arrived, up to one batch."""
        receive, flows, now = self._receive, self._flows, self.reactor.now
        datagrams = octets = 0
        try:
            for _ in range(self.batch):
                data, client = receive(LARGEST)
                datagrams += 1
                octets += len(data)
                flow = flows.get(client)
                if flow is None:
                    self._begin(client, data, ())
                    continue
                flow.used = now
                flow.touch(flow)
                try:
                    write(flow.target, data)
                except OSError as error:
                    self._not_sent(flow, data, error)
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(error)
        self.traffic.upload.bytes += octets
        self.traffic.datagrams_received += datagrams

    def _not_sent(self, flow: Flow, data: bytes, error: OSError) -> None:
        """Send the datagram to another endpoint if the flow's refused an earlier one (this one was not sent then); else drop it."""
        if flow.target == REFUSED or error.errno in REFUSALS:
            self._refused(flow, error)
            flow.end()
            self._begin(flow.client, data, (flow.endpoint,))
        else:
            self.drop(error)

    def _begin(self, client: Client, data: bytes, avoid: tuple[Endpoint, ...]) -> None:
        """Open a flow and send its first datagram. The boundary: whatever goes wrong with one client ends here."""
        try:
            flow = self._open(client, avoid)
            if flow is not None:
                write(flow.target, data)
        except OSError as error:
            self.drop(error)
        except Exception as error:  # noqa: BLE001 - as said
            self._count_drops("bug", 1)
            report = self._context.log.error
            report("udp_flow_failed", exc_info=error, service_port=str(self.service_port))

    def _open(self, client: Client, avoid: tuple[Endpoint, ...]) -> Flow | None:
        """Connect to the next endpoint that can be reached; None when there is no endpoint.

        Raises OSError when there is no room even after the least recently used flow has ended, or no endpoint is reachable.
        """
        now, error = self.reactor.now, OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        for _ in range(self._context.config.udp.attempts):
            endpoint = self.balancer.pick(client[0], now, avoid) or self.balancer.pick(client[0], now)
            if endpoint is None:
                self._count_drops("no_endpoint", 1)
                return None
            try:
                return self._with_room(client, endpoint)
            except OSError as failure:
                if failure.errno in OUT_OF_ROOM:
                    raise
                error = failure
            self._failed(endpoint)
            avoid = (*avoid, endpoint)
        raise error

    def _with_room(self, client: Client, endpoint: Endpoint) -> Flow:
        """Make a flow; if there is no room for it, end the least recently used one and try once more."""
        flows = self._context.flows
        flows.make_room()
        try:
            return self._make(client, endpoint)
        except OSError as error:
            if error.errno not in OUT_OF_ROOM or not flows.evict(name_of(error), at_once=True):
                raise
        return self._make(client, endpoint)

    def _make(self, client: Client, endpoint: Endpoint) -> Flow:
        context = self._context
        if not context.descriptors.take(1):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        try:
            upstream = connect(client[0], endpoint, context, keep=self.keep_client_address)
        except OSError:
            context.descriptors.give(1)
            raise
        flow = Flow(self, client, endpoint, upstream, self.reactor.now)
        context.flows.add(flow)
        self._flows[client] = flow
        self._living += 1
        self.traffic.flows += 1
        self.traffic.flows_active += 1
        try:
            self.reactor.add(upstream.sock.fileno(), READ, flow.on_readable)
        except OSError:
            flow.end()
            raise
        return flow

    def first_answer(self, flow: Flow) -> None:
        """Note that a flow's endpoint has answered for the first time."""
        table = self._context.flows
        table.answered(flow)
        flow.touch = flow.heard = table.touch_answered
        self._context.ejector.succeeded(flow.endpoint)

    def upstream_failed(self, flow: Flow, error: OSError) -> None:
        """Note an error that the kernel kept for a flow's socket: an ICMP error about an earlier datagram, usually."""
        if error.errno in REFUSALS:
            self._refused(flow, error)
        else:
            self.drop(error)

    def forget(self, flow: Flow) -> bool:
        """Take a flow that ends out of everything that counts it; False when it has ended already."""
        if not self._context.flows.discard(flow):
            return False
        self._context.descriptors.give(1)
        if self._flows.get(flow.client) is flow:
            del self._flows[flow.client]
        self._count_drops("flow_buffer_full", flow.kernel_drops())
        self.traffic.flows_active -= 1
        self._living -= 1
        if self._closed and not self._living:
            self._context.traffic.release(self.service_port)
        return True

    def release_port(self, flow: Flow, port: int) -> None:
        """Let others use the source port of a flow that carried its client's address."""
        self._context.udp_source_ports.release(flow.client[0], flow.endpoint, port)

    def drop(self, error: OSError) -> None:
        """Count a datagram that was not relayed, by the error's name."""
        self._count_drops("listener_closed" if self._closed else name_of(error), 1)

    def _refused(self, flow: Flow, error: OSError) -> None:
        """Note that an endpoint refused a datagram: once per flow, for all that were on their way meanwhile."""
        if flow.refuse():
            self.drop(error)
            self._failed(flow.endpoint)

    def _failed(self, endpoint: Endpoint) -> None:
        if self._context.ejector.failed(endpoint, self.reactor.now):
            self._context.counters.ejections += 1

    def _count_drops(self, reason: str, number: int) -> None:
        if number:
            dropped = self._context.counters.datagrams_dropped
            dropped[reason] = dropped.get(reason, 0) + number


def name_of(error: OSError) -> str:
    """Give the name of an error's number, as counters are labelled."""
    return errno.errorcode.get(error.errno or 0, "OSError")
