"""UDP sockets: their options, a listener's, and a connected one to an endpoint from the node's or the client's address.

Must not know flows or listeners. Invariants: a function gives a socket that is ready, or leaves nothing behind;
an Upstream's port is in the register exactly as long as its socket exists.
"""

from __future__ import annotations

import _socket
import errno
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from uproxy.core.model import Endpoint
from uproxy.dataplane.admitting import admit
from uproxy.dataplane.counters import count
from uproxy.dataplane.upstream import transparent_option
from uproxy.errors import ListenError

if TYPE_CHECKING:
    from uproxy.core.admission import Lists
    from uproxy.dataplane.context import Binding, Context

# What goes away when another flow ends: descriptors, memory, watches of the epoll, free local ports (EAGAIN of connect(2)).
OUT_OF_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN})

SOCKET_TYPE: Final = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# linux/in.h, linux/in6.h, linux/sock_diag.h; the socket module knows none of them. 0: IP_PMTUDISC_DONT.
_FRAGMENT: Final[dict[int, tuple[int, int, int]]] = {
    socket.AF_INET: (socket.IPPROTO_IP, 10, 0),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 0),
}
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
_DROPS: Final = 8
REMEDIES: Final[dict[int | None, str]] = {
    errno.EADDRINUSE: "; another process has this port (ss -lnup shows which): stop it, or give it an address of its own",
    errno.EADDRNOTAVAIL: "; this machine does not have the address: add it, or use a redirect back end that delivers it",
    errno.EACCES: "; ports below 1024 need CAP_NET_BIND_SERVICE",
    errno.EPERM: "; IP_TRANSPARENT and SO_MARK need CAP_NET_ADMIN",
    errno.EMFILE: "; raise the limit of open files (ulimit -n, LimitNOFILE=)",
    errno.ENOMEM: "; raise net.core.optmem_max, which limits how many source ranges a listener may have",
    errno.E2BIG: "; a listener may have fewer source ranges: join some",
}


class Upstream(NamedTuple):
    """A socket connected to an endpoint. port: the registered source port; 0 when the source is the node's own address."""

    sock: _socket.socket
    port: int = 0


def family_number(address: str) -> int:
    """Give the address family (AF_INET, AF_INET6) of a canonical address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def udp_socket(family: int) -> _socket.socket:
    """Make a non-blocking UDP socket that sends without DF and never fails for a path's MTU (ip(7), IP_MTU_DISCOVER).

    The client's own path MTU discovery ends here, so datagrams arrive whole by being fragmented. And an ICMP error
    that quotes a rewritten port belongs to no socket: discovery would never learn. IPv6 routers do not fragment:
    there, behind a rewritten port, a path narrower than its first hop loses what does not fit.
    """
    sock = _socket.socket(family, SOCKET_TYPE)
    sock.setsockopt(*_FRAGMENT[family])
    return sock


def listening_socket(binding: Binding, receive_buffer: int, admitted: Lists = ()) -> _socket.socket:
    """Make a listener's socket, bound and with all its options; raises ListenError."""
    where = Endpoint(binding.key.vip, binding.port)
    try:
        sock = udp_socket(family_number(where.address))
    except OSError as error:
        raise ListenError(f"{binding.key}: no socket for it: {error.strerror}{REMEDIES.get(error.errno, '')}") from error
    try:
        _configure(sock, binding, receive_buffer)
        if admitted:
            admit(sock, admitted)
        sock.bind(where)
    except OSError as error:
        sock.close()
        raise ListenError(f"{binding.key}: {where} cannot be bound: {error.strerror}{REMEDIES.get(error.errno, '')}") from error
    return sock


def _configure(sock: _socket.socket, binding: Binding, receive_buffer: int) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if binding.transparent:
        sock.setsockopt(*transparent_option(sock.family), 1)
    if binding.mark:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, binding.mark)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)


def connect(client: str, endpoint: Endpoint, context: Context, *, keep: bool) -> Upstream:
    """Connect to the endpoint, from the client's address if keep says so and the endpoint's answers will come back to us.

    Raises OSError as socket(2), bind(2) and connect(2) do. Who receives the Upstream closes its socket and releases its port.
    """
    same_family = (":" in client) == (":" in endpoint.address)
    if keep and same_family and context.client_addresses.keeps(client, endpoint):
        upstream = _connect_as_client(client, endpoint, context)
        if upstream is not None:
            context.counters.kept_addresses += 1
            return upstream
    sock = udp_socket(family_number(endpoint.address))
    try:
        sock.connect(endpoint)
    except OSError:
        sock.close()
        raise
    return Upstream(sock)


def _connect_as_client(client: str, endpoint: Endpoint, context: Context) -> Upstream | None:
    """Connect from the client's address and a port of ours; None, and a reason counted, when the node's own must do."""
    ports, reason = context.udp_source_ports, "ports"
    for _ in range(context.config.udp.source_port_attempts):
        port = ports.take(client, endpoint)
        if port is None:
            break
        try:
            return Upstream(_connect_from(client, port, endpoint), port)
        except OSError as error:
            ports.release(client, endpoint, port)
            if error.errno in OUT_OF_ROOM:
                raise
            reason = errno.errorcode.get(error.errno or 0, "OSError")
            if error.errno != errno.EADDRINUSE:
                break
    count(context.counters.kept_address_fallbacks, reason)
    return None


def _connect_from(client: str, port: int, endpoint: Endpoint) -> _socket.socket:
    family = family_number(endpoint.address)
    sock = udp_socket(family)
    try:
        # The register makes sure that the peers differ; see udp_source_ports.py.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(*transparent_option(family), 1)
        sock.bind((client, port))
        sock.connect(endpoint)
    except OSError:
        sock.close()
        raise
    return sock


def kernel_drops(sock: _socket.socket) -> int:
    """Read how many datagrams the kernel dropped for want of room in the socket's receive buffer (SO_MEMINFO, socket(7)).

    SO_RXQ_OVFL tells the same beside each datagram, but only through recvmsg, which costs 1 us more each time.
    """
    drops: int = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_DROPS]
    return drops
