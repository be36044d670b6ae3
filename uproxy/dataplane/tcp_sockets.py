"""TCP listening sockets: their options, and what is said where there can be none.

Must not know what a listener does with what it accepts. Invariant: a function gives a socket that is ready, or leaves nothing behind.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
from typing import TYPE_CHECKING, Final

from uproxy.dataplane.admitting import admit
from uproxy.dataplane.upstream import SOCKET_TYPE, transparent_option
from uproxy.errors import ListenError

if TYPE_CHECKING:
    from uproxy.config import TcpSettings
    from uproxy.core.admission import Lists
    from uproxy.dataplane.context import Binding
    from uproxy.dataplane.tcp_context import TcpContext

# linux/in.h: let packets be fragmented. An ICMP error about a rewritten listener's packet quotes the service port,
# which no socket has, so path MTU discovery would never hear of it.
IP_MTU_DISCOVER: Final = 10
IP_PMTUDISC_DONT: Final = 0
REMEDIES: Final = {
    errno.EADDRINUSE: "another process listens on this port (ss -lntp shows which): stop it, or have it listen on addresses of its own",
    errno.EADDRNOTAVAIL: "this machine does not have the address: add it, or use a redirect back end that delivers it",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
    errno.EPERM: "IP_TRANSPARENT and SO_MARK need CAP_NET_ADMIN",
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE=)",
    errno.ENOSPC: "raise fs.epoll.max_user_watches",
    errno.ENOMEM: "raise net.core.optmem_max, which limits how many source ranges a listener may have",
    errno.E2BIG: "a listener may have fewer source ranges: join some",
}


def listening_socket(binding: Binding, tcp: TcpContext, admitted: Lists) -> _socket.socket:
    """Make a listening socket with everything that accepted ones inherit. Raises ListenError saying what would help."""
    key = binding.key
    family = socket.AF_INET6 if ":" in key.vip else socket.AF_INET
    if not tcp.descriptors.take(1):
        raise ListenError(f"cannot listen on {key}: the descriptor budget ({tcp.descriptors.budget}) is used up; {REMEDIES[errno.EMFILE]}")
    sock = None
    try:
        sock = _socket.socket(family, SOCKET_TYPE)
        for level, name, value in listener_options(binding, family, tcp.settings):
            sock.setsockopt(level, name, value)
        sock.bind((key.vip, binding.port))
        if admitted:
            admit(sock, admitted)
        sock.listen(tcp.settings.backlog)
    except OSError as error:
        if sock is not None:
            sock.close()
        tcp.descriptors.give(1)
        raise refusal(binding, error) from error
    return sock


def refusal(binding: Binding, error: OSError) -> ListenError:
    """Say where one cannot listen, why, and what would help."""
    where = str(binding.key) if binding.port == binding.key.port else f"{binding.key} (local port {binding.port})"
    reason = os.strerror(error.errno) if error.errno else str(error)
    remedy = REMEDIES.get(error.errno or 0)
    return ListenError(f"cannot listen on {where}: {reason}" + (f"; {remedy}" if remedy else ""))


def listener_options(binding: Binding, family: int, settings: TcpSettings) -> list[tuple[int, int, int]]:
    """List level, name and value of each option; accepted sockets inherit all but the first (socket(7), tcp(7))."""
    tcp, sol = socket.IPPROTO_TCP, socket.SOL_SOCKET
    options = [
        (sol, socket.SO_REUSEADDR, 1),
        (tcp, socket.TCP_NODELAY, 1),
        (sol, socket.SO_KEEPALIVE, 1),
        (tcp, socket.TCP_KEEPIDLE, max(1, round(settings.keepalive_idle))),
        (tcp, socket.TCP_KEEPINTVL, max(1, round(settings.keepalive_interval))),
        (tcp, socket.TCP_KEEPCNT, settings.keepalive_probes),
        (tcp, socket.TCP_USER_TIMEOUT, round(settings.user_timeout * 1000)),
    ]
    if family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1))
    if binding.transparent:
        options.append((*transparent_option(family), 1))
        if family == socket.AF_INET:
            options.append((socket.SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT))
    if binding.mark:
        options.append((sol, socket.SO_MARK, binding.mark))
    return options
