"""One epoll for every proxied socket, itself watched by the asyncio loop.

Owns the epoll, the table from descriptor to handler, the shared receive buffer and the run queue. Must not
know what a connection is. Invariant: a socket closed during a turn keeps its descriptor until the turn ends,
so an event that was already fetched can never reach the next owner of the same number.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uproxy.log import Log

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
HANG_UP: Final = select.EPOLLRDHUP
URGENT: Final = select.EPOLLPRI
EDGE: Final = select.EPOLLET
ERROR: Final = select.EPOLLERR
CLOSED: Final = select.EPOLLHUP

# Events fetched by one epoll_wait: about 1 ms of work, after which asyncio's timers and readers get a turn.
EVENTS_PER_TURN: Final = 256


class Reactor:
    """Calls handler(mask) for each event of a registered descriptor, on the asyncio loop's thread.

    now: monotonic seconds at the start of the turn; what handlers use as the time.
    buffer: the receive buffer that all handlers share; its content is gone when the handler returns.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, buffer_bytes: int = 65536) -> None:
        self._loop = loop
        self._log = log
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._closing: list[_Closable] = []
        self._again: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self.now = time.monotonic()
        self.buffer = memoryview(bytearray(buffer_bytes))
        loop.add_reader(self._epoll.fileno(), self._turn)

    def add(self, descriptor: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call handler(mask) at events of mask; raises OSError when the kernel has no room (ENOMEM, ENOSPC)."""
        self._epoll.register(descriptor, mask)
        self._handlers[descriptor] = handler

    def modify(self, descriptor: int, mask: int) -> None:
        """Change which events are wanted."""
        self._epoll.modify(descriptor, mask)

    def close(self, sock: _Closable) -> None:
        """Forget the socket now and close it at the end of the turn. The caller must not use it again."""
        self._handlers.pop(sock.fileno(), None)
        self._closing.append(sock)
        self._schedule()

    def again(self, callback: Callable[[], None]) -> None:
        """Call callback in the next turn: for work that used up its share of this one."""
        self._again.append(callback)
        self._schedule()

    def stop(self) -> None:
        """Close what waits to be closed and the epoll itself. No handler is called afterwards."""
        self._loop.remove_reader(self._epoll.fileno())
        self._handlers.clear()
        self._again.clear()
        self._close_all()
        self._epoll.close()

    def _turn(self) -> None:
        self.now = time.monotonic()
        handlers = self._handlers
        for descriptor, mask in self._epoll.poll(0, EVENTS_PER_TURN):
            handler = handlers.get(descriptor)
            if handler is not None:
                try:
                    handler(mask)
                except Exception as error:  # noqa: BLE001 - the boundary: one connection's bug must not end the others
                    self._broken(descriptor, error)
        self._run_again()
        self._close_all()

    def _run_again(self) -> None:
        for _ in range(len(self._again)):
            callback = self._again.popleft()
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - as above
                self._log.error("run_queue_failed", exc_info=error)

    def _broken(self, descriptor: int, error: Exception) -> None:
        """Leave a descriptor alone whose handler raised: that is a bug, reported with its traceback."""
        self._log.error("connection_handler_failed", exc_info=error, descriptor=descriptor)
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_scheduled)

    def _run_scheduled(self) -> None:
        self._scheduled = False
        if not self._epoll.closed:
            self._turn()
        if self._again:
            self._schedule()

    def _close_all(self) -> None:
        closing, self._closing = self._closing, []
        for sock in closing:
            sock.close()
