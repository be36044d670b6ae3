"""Resetting a TCP connection, at once or as soon as everything before the reset has been sent.

Owns the last moments of a socket whose counterpart is dead; must not know what went before. A reset throws away
what is still in the send queue, so a reply that ended in a reset would arrive shorter than without a proxy.
Invariant: a socket handed over to this module is closed by it.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import TYPE_CHECKING, Final

from uproxy.dataplane.pipes import Pipe
from uproxy.dataplane.reactor import EDGE, ERROR, WRITE
from uproxy.dataplane.splicing import send_spliced

if TYPE_CHECKING:
    import _socket

    from uproxy.dataplane.reactor import Reactor
    from uproxy.dataplane.tcp import TcpListener

LINGER: Final = struct.pack("ii", 1, 0)
# linux/sockios.h: bytes in the send queue that have never been sent.
SIOCOUTQNSD: Final = 0x894B
TCP_NOTSENT_LOWAT: Final = 25


def reset(reactor: Reactor, sock: _socket.socket) -> None:
    """Close the socket with a RST instead of a FIN (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    reactor.close(sock)


def is_sent(sock: _socket.socket) -> bool:
    """Tell whether everything in the socket's send queue, its FIN included, has been sent at least once."""
    unsent = fcntl.ioctl(sock.fileno(), SIOCOUTQNSD, b"\0\0\0\0")
    return not int.from_bytes(unsent, "little" if struct.pack("=H", 1)[0] else "big")


class PendingReset:
    """A socket that gets what is held for it, and then a reset.

    It waits for as long as its peer reads; TCP_USER_TIMEOUT ends the wait for one that does not. The kernel
    reports WRITE once less than TCP_NOTSENT_LOWAT bytes are unsent (tcp(7)), so that nobody has to poll.
    """

    __slots__ = ("_held", "_listener", "_sock")

    def __init__(self, listener: TcpListener, sock: _socket.socket, held: bytes | memoryview | Pipe | None) -> None:
        self._listener = listener
        self._sock: _socket.socket | None = sock
        self._held = held
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1)
        listener.tcp.reactor.replace(sock.fileno(), self.on_event)
        self._look_again(sock)

    def on_event(self, mask: int) -> None:
        """Go on sending; reset once all is sent, or when the socket is dead itself."""
        if self._sock is None:
            return
        try:
            if mask & ERROR or (self._send(self._sock) and is_sent(self._sock)):
                self.abort()
            elif self._held is None:
                self._look_again(self._sock)
        except BlockingIOError:
            return
        except OSError:
            self.abort()

    def abort(self) -> None:
        """Reset now."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        tcp = self._listener.tcp
        if isinstance(self._held, Pipe):
            tcp.pipes.give(self._held)
        reset(tcp.reactor, sock)
        self._listener.forget(self, 1)

    def _look_again(self, sock: _socket.socket) -> None:
        """Ask for the next WRITE: EPOLL_CTL_MOD polls anew, which reports one that is there and arms the next one."""
        self._listener.tcp.reactor.modify(sock.fileno(), WRITE | EDGE)

    def _send(self, sock: _socket.socket) -> bool:
        """Send what is held; True when nothing is."""
        if isinstance(self._held, Pipe):
            if not send_spliced(self._held, sock.fileno()):
                return False
            self._listener.tcp.pipes.give(self._held)
        elif self._held is not None:
            sent = sock.send(self._held)
            if sent < len(self._held):
                self._held = memoryview(self._held)[sent:]
                return False
        self._held = None
        return True
