"""Opening a TCP connection to an endpoint, from the node's address or from the client's own.

Owns the options of upstream sockets and the choice of their source port; must not know when one is opened and
what becomes of it. Invariant: open() gives a socket whose connect is under way, or leaves nothing behind.
"""

from __future__ import annotations

import _socket
import errno
import random
import socket
from contextlib import suppress
from socket import AF_INET, AF_INET6, IPPROTO_TCP, TCP_NODELAY, TCP_QUICKACK
from typing import TYPE_CHECKING, Final, Protocol

from uproxy.dataplane.counters import count

if TYPE_CHECKING:
    from uproxy.config import TcpSettings
    from uproxy.core.model import Endpoint
    from uproxy.dataplane.counters import Counters

# linux/in.h and linux/in6.h; the socket module knows neither.
IP_TRANSPARENT: Final = (socket.SOL_IP, 19)
IPV6_TRANSPARENT: Final = (socket.IPPROTO_IPV6, 75)
SOCKET_TYPE: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
# A source port that somebody holds: EADDRINUSE at bind, EADDRNOTAVAIL at connect when the same pair of peers uses it.
PORT_TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
UNDER_WAY: Final = frozenset({0, errno.EINPROGRESS})


class ClientAddresses(Protocol):
    """Tells where an upstream connection may carry the client's address."""

    def keeps(self, client: str, endpoint: Endpoint) -> bool:
        """Tell whether the endpoint's answers to this client's address come back through this node."""


class NodeAddressOnly:
    """The ClientAddresses of a node where nothing comes back: every endpoint sees the node's address."""

    def keeps(self, client: str, endpoint: Endpoint) -> bool:  # noqa: ARG002 - the Protocol's parameters
        """Tell that it may not."""
        return False


def transparent_option(family: int) -> tuple[int, int]:
    """Give level and name of the option that allows an address which is not ours (ip(7), IP_TRANSPARENT)."""
    return IPV6_TRANSPARENT if family == socket.AF_INET6 else IP_TRANSPARENT


class Upstreams:
    """Opens upstream sockets. Everything it counts is in counters."""

    def __init__(self, settings: TcpSettings, client_addresses: ClientAddresses, counters: Counters) -> None:
        self._client_addresses = client_addresses
        self._counters = counters
        self._first_port, self._last_port = settings.source_ports
        self._port_attempts = settings.source_port_attempts
        # Not the first one: connections of the run before may still be known to the endpoints.
        self._next_port = random.randint(self._first_port, self._last_port)
        tcp = socket.IPPROTO_TCP
        self._lasting_options = (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (tcp, socket.TCP_KEEPIDLE, max(1, round(settings.keepalive_idle))),
            (tcp, socket.TCP_KEEPINTVL, max(1, round(settings.keepalive_interval))),
            (tcp, socket.TCP_KEEPCNT, settings.keepalive_probes),
            (tcp, socket.TCP_USER_TIMEOUT, round(settings.user_timeout * 1000)),
        )

    def settle(self, sock: _socket.socket) -> None:
        """Set the options that matter only for a connection that lasts: whether its peer is still there."""
        with suppress(OSError):
            for level, name, value in self._lasting_options:
                sock.setsockopt(level, name, value)

    def open(self, endpoint: Endpoint, client: str, *, keep_client_address: bool) -> _socket.socket:
        """Begin to connect to the endpoint; the socket is non-blocking and writable once the connection stands.

        Raises OSError: what connect(2) says at once, EMFILE and the like for want of a socket, EADDRNOTAVAIL when
        the kernel has no source port left for this endpoint.
        """
        family = AF_INET6 if ":" in endpoint.address else AF_INET
        if keep_client_address and (":" in client) == (family is AF_INET6) and self._client_addresses.keeps(client, endpoint):
            sock = self._open_from(client, endpoint, family)
            if sock is not None:
                return sock
        return self._connect(self._new_socket(family), endpoint)

    def _new_socket(self, family: int) -> _socket.socket:
        sock = _socket.socket(family, SOCKET_TYPE)
        set_option = sock.setsockopt
        set_option(IPPROTO_TCP, TCP_NODELAY, 1)
        # The handshake's ACK rides on the first data: one packet less per connection (5 % of its CPU).
        set_option(IPPROTO_TCP, TCP_QUICKACK, 0)
        return sock

    def _connect(self, sock: _socket.socket, endpoint: Endpoint) -> _socket.socket:
        self._counters.connect_attempts += 1
        error = sock.connect_ex(endpoint)
        if error in UNDER_WAY:
            return sock
        sock.close()
        raise OSError(error, errno.errorcode.get(error, str(error)))

    def _open_from(self, client: str, endpoint: Endpoint, family: int) -> _socket.socket | None:
        """Connect from the client's address; None, counted, when no source port or no permission is to be had.

        The port is explicit and from a range of ours: one that the kernel chose could be the one of a connection
        that the client opens itself. With SO_REUSEADDR a port serves any number of different peers.
        """
        for _ in range(self._port_attempts):
            sock = self._new_socket(family)
            try:
                sock.setsockopt(*transparent_option(family), 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((client, self._take_port()))
            except OSError as error:
                sock.close()
                if error.errno in PORT_TAKEN:
                    self._leap()
                    continue
                count(self._counters.kept_address_fallbacks, errno.errorcode.get(error.errno or 0, "unknown"))
                return None
            try:
                self._connect(sock, endpoint)
            except OSError as error:
                if error.errno not in PORT_TAKEN:
                    raise
                self._leap()
                continue
            self._counters.kept_addresses += 1
            return sock
        count(self._counters.kept_address_fallbacks, "ports")
        return None

    def _take_port(self) -> int:
        port = self._next_port
        self._next_port = port + 1 if port < self._last_port else self._first_port
        return port

    def _leap(self) -> None:
        """Go on a good way off: the neighbours of a port in use were mostly taken at the same time, and by the same pair.

        The attempts of one connection are spread over the whole range, so that a pair falls back only when it holds most of it.
        """
        count = self._last_port - self._first_port + 1
        leap = max(count // self._port_attempts - 1, 0)
        self._next_port = self._first_port + (self._next_port - self._first_port + leap) % count
