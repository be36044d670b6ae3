"""One epoll for every proxied socket, itself watched by the asyncio loop.

Owns the epoll, the table from descriptor to handler, the shared receive buffer and the run queue. Must not
know what a connection is. Invariant: a socket closed during a turn keeps its descriptor until the turn ends,
so an event that was already fetched can never reach the next owner of the same number.
"""

from __future__ import annotations

import select
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

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

# Events fetched by one epoll_wait: about 1 ms of work, 5 ms where each is a new connection. Then the run queue gets its turn.
EVENTS_PER_WAIT: Final = 64
# Seconds after which a turn fetches no more, by the time of its last fetch. Coming back through the asyncio loop costs 3 to
# 5 us more than asking again here, which is nothing after this long; but while clients come faster than they can be served
# there is always something to ask for, and timers, watches and health would have to wait.
TURN: Final = 0.004


class Closable(Protocol):
    """What the reactor needs of a socket that it is to close."""

    def fileno(self) -> int:
        """Give the descriptor."""

    def close(self) -> None:
        """Close it."""


class Reactor:
    """Calls handler(mask) for each event of a registered descriptor, on the asyncio loop's thread.

    now: monotonic seconds at the start of the turn; what handlers use as the time.
    buffer: the receive buffer that all handlers share; its content is gone when the handler returns.
    A handler that raises has a bug: it is logged with its traceback, and its owner's abort() is called if it has
    one; otherwise the descriptor is left alone. Nobody else is touched.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, buffer_bytes: int = 65536) -> None:
        self._loop = loop
        self._log = log
        self._epoll = select.epoll()
        # By descriptor. The kernel gives out the lowest number that is free, so there are hardly more places than sockets.
        self._handlers: list[Callable[[int], None] | None] = []
        self._closing: list[Closable] = []
        self._again: list[Callable[[], None]] = []
        self._scheduled = False
        self._in_turn = False
        self.now = monotonic()
        self.buffer = memoryview(bytearray(buffer_bytes))
        loop.add_reader(self._epoll.fileno(), self._turn)

    def add(self, descriptor: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call handler(mask) at events of mask; raises OSError when the kernel has no room (ENOMEM, ENOSPC)."""
        self._epoll.register(descriptor, mask)
        handlers = self._handlers
        if descriptor >= len(handlers):
            handlers.extend([None] * (descriptor + 1 - len(handlers)))
        handlers[descriptor] = handler

    def modify(self, descriptor: int, mask: int) -> None:
        """Change which events are wanted; an edge that is there now is reported again (epoll_ctl(2), EPOLL_CTL_MOD)."""
        self._epoll.modify(descriptor, mask)

    def replace(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Call another handler from now on, for the same events."""
        self._handlers[descriptor] = handler

    def close(self, sock: Closable) -> None:
        """Forget the socket now and close it at the end of the turn. The caller must not use it again."""
        self._forget(sock.fileno())
        self._closing.append(sock)
        if not self._in_turn:
            self._schedule()

    def close_now(self, sock: Closable) -> None:
        """Forget the socket and close it: outside a turn at once, for no fetched event can be waiting for it."""
        if self._in_turn:
            self.close(sock)
        else:
            self._forget(sock.fileno())
            sock.close()

    def again(self, callback: Callable[[], None]) -> None:
        """Call callback in the next turn: for work that used up its share of this one."""
        self._again.append(callback)
        if not self._in_turn:
            self._schedule()

    def tick(self) -> float:
        """Bring `now` up to date and give it: for callers that are not inside a turn, such as timers."""
        self.now = monotonic()
        return self.now

    def stop(self) -> None:
        """Close what waits to be closed and the epoll itself. No handler is called afterwards."""
        self._loop.remove_reader(self._epoll.fileno())
        self._handlers[:] = [None] * len(self._handlers)
        self._again.clear()
        self._close_all()
        self._epoll.close()

    def _turn(self) -> None:
        """Handle what the epoll reports until it reports hardly anything, or for TURN seconds, and the run queue.

        The error boundary stands around the whole batch, not around each event: a try block is free while nothing
        is raised, and after an error the rest of the batch goes on.
        """
        self._in_turn = True
        handlers = self._handlers
        until = monotonic() + TURN
        quiet = False
        while not quiet and self.now < until:
            fetched = self._epoll.poll(0, EVENTS_PER_WAIT)
            self.now = monotonic()
            # A single event is a quiet moment: asking again would find nothing, and cost 0.6 us of the latency of a lone client.
            quiet = len(fetched) <= 1
            events = iter(fetched)
            descriptor = -1
            while True:
                try:
                    for descriptor, mask in events:
                        handler = handlers[descriptor]
                        if handler is not None:
                            handler(mask)
                    break
                except Exception as error:  # noqa: BLE001 - the boundary: one connection's bug must not end the others
                    self._broken(descriptor, error)
            if self._again:
                self._run_again()
                quiet = False
            if self._closing:
                self._close_all()
        self._in_turn = False
        if self._again:
            self._schedule()

    def _run_again(self) -> None:
        """Run what was queued before now; what it queues itself waits for the next round."""
        queued, self._again = self._again, []
        for callback in queued:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - as in _turn
                self._abort_owner(callback, error)

    def _broken(self, descriptor: int, error: Exception) -> None:
        handler = self._handlers[descriptor] if descriptor >= 0 else None
        if self._abort_owner(handler, error):
            return
        if self._forget(descriptor):
            self._epoll.unregister(descriptor)

    def _forget(self, descriptor: int) -> bool:
        """Call nobody any more for a descriptor; False if nobody was called anyway."""
        if not 0 <= descriptor < len(self._handlers) or self._handlers[descriptor] is None:
            return False
        self._handlers[descriptor] = None
        return True

    def _abort_owner(self, callback: object, error: Exception) -> bool:
        """Log a bug and abort the object whose method raised; False when that cannot be done."""
        self._log.error("connection_handler_failed", exc_info=error)
        abort = getattr(getattr(callback, "__self__", None), "abort", None)
        if abort is None:
            return False
        try:
            abort()
        except Exception as second:  # noqa: BLE001 - as in _turn
            self._log.error("connection_abort_failed", exc_info=second)
            return False
        return True

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_scheduled)

    def _run_scheduled(self) -> None:
        self._scheduled = False
        if not self._epoll.closed:
            self._turn()

    def _close_all(self) -> None:
        closing, self._closing = self._closing, []
        for sock in closing:
            sock.close()
