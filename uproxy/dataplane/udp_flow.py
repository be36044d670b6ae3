"""A UDP flow: one client's datagrams to one endpoint and back.

Owns the connected socket to the endpoint. Must not know how it came to that endpoint nor what else the listener
carries. Invariant: a flow is in the flow table exactly as long as its socket is open.
"""

from __future__ import annotations

import os
from os import read
from typing import TYPE_CHECKING, Final

from uproxy.dataplane.udp_sockets import kernel_drops

if TYPE_CHECKING:
    from collections.abc import Callable

    from uproxy.core.model import Endpoint
    from uproxy.dataplane.udp import UdpListener
    from uproxy.dataplane.udp_sockets import Upstream

# A client as recvfrom(2) names it: (address, port), in IPv6 (address, port, flow label, scope).
Client = tuple[str, int] | tuple[str, int, int, int]

# Reading once more just to hear that nothing is there costs 1 us, a tenth of a round trip, so an event is one read;
# the registration is level-triggered. But a flow with a burst of answers would get one of them per epoll_wait, and lose
# what does not fit its buffer (256 small datagrams). So every so many events it looks whether there is more.
SINGLE_READS: Final = 16
LARGEST: Final = 65535
"""Bytes of the longest datagram that UDP knows (RFC 768)."""
REFUSED: Final = -1


class Flow:
    """One client's datagrams to one endpoint and back.

    used: time of the last datagram in either direction. touch and heard note a datagram from the client and from
    the endpoint in the flow table: they are exchanged when the first answer comes, so that no datagram asks.
    target: the descriptor to write to; REFUSED, which is none, once the endpoint has refused a datagram. os.read and
    os.write instead of the socket's methods, which parse their arguments the slow way: 0.4 us per datagram.
    """

    __slots__ = ("_single", "_source", "_upstream", "client", "endpoint", "heard", "listener", "target", "touch", "used")

    def __init__(self, listener: UdpListener, client: Client, endpoint: Endpoint, upstream: Upstream, now: float) -> None:
        self.listener = listener
        self.client = client
        self.endpoint = endpoint
        self._upstream = upstream
        self._source = self.target = upstream.sock.fileno()
        self.touch: Callable[[Flow], None] = listener.touch_unanswered
        self.heard: Callable[[Flow], None] = listener.first_answer
        self.used = now
        self._single = SINGLE_READS

    def on_readable(self, _mask: int) -> None:
        """Relay one datagram to the client, or all that wait when more than one was found waiting lately."""
        if self._single:
            self._single -= 1
            self._relay()
            return
        limit = self.listener.batch
        relayed = 0
        while relayed < limit and self._relay():
            relayed += 1
        if relayed <= 1:
            self._single = SINGLE_READS

    def _relay(self) -> bool:
        """Relay the next datagram; False when there is none."""
        listener = self.listener
        try:
            data = read(self._source, LARGEST)
        except BlockingIOError:
            return False
        except OSError as error:
            listener.upstream_failed(self, error)
            return False
        self.used = listener.reactor.now
        self.heard(self)
        try:
            listener.reply(data, self.client)
        except OSError as error:
            listener.drop(error)
        else:
            listener.sent.bytes += len(data)
            listener.traffic.datagrams_sent += 1
        return True

    def kernel_drops(self) -> int:
        """Count the datagrams from the endpoint that found the socket's receive buffer full."""
        return kernel_drops(self._upstream.sock)

    def refuse(self) -> bool:
        """Let the next datagram from the client be refused, whereupon it goes elsewhere; False when that was so already."""
        if self.target == REFUSED:
            return False
        self.target = REFUSED
        return True

    def abort(self) -> None:
        """End the flow because of a bug in its handling: what the reactor asks for."""
        self.end()

    def end(self, *, at_once: bool = False) -> None:
        """Close the socket: at the end of the reactor's turn, or at once when its descriptor is needed now.

        At once is for room that is used up: the descriptor's next owner is the flow that asked for it, and an event
        already fetched for the number makes that one read and find nothing.
        """
        listener = self.listener
        if not listener.forget(self):
            return
        sock, port = self._upstream
        listener.reactor.close(sock)
        if at_once:
            os.close(sock.detach())
        if port:
            listener.release_port(self, port)
