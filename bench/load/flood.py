"""Datagrams in one direction at a rate that is given (open loop), and how many of them arrived. Units are those that arrived.

The other side must be the load's server: it discards and counts, and is asked over TCP, past whatever is measured.
extra: "offered", thousands of datagrams that were sent in a second.
"""

from __future__ import annotations

import select
import socket
from time import perf_counter_ns, sleep
from typing import Final

from bench.load.generator import CONNECT_SECONDS, Address, Failures, Loop, Result, flows
from bench.load.server import COUNTS
from bench.load.ticker import Ticker

BURSTS: Final = 5000
"""In a second: at 100,000 datagrams 20 of them, far less than the 90 large ones that a receive buffer of Linux' default size holds."""
MOST_TICKS: Final = 4
"""Bursts that are made up for: who is later than that offers less, instead of more than any buffer holds at once."""
SETTLE_SECONDS: Final = 0.05
SETTLES: Final = 20
"""Datagrams are on their way no longer than until the count stands still; nor longer than a second."""


class Flood:
    """rate: datagrams in a second; server: the address of the load's server itself, the target's own if empty."""

    def __init__(self, address: Address, connections: int = 4, size: int = 1400, *, rate: float = 1000.0, server: str = "") -> None:
        self._counts = server or address[0], COUNTS
        self._failures = Failures()
        self._loop = Loop()
        self._burst = max(1, round(rate / BURSTS))
        self._ticker = Ticker(max(1, round(1e9 * self._burst / rate)))
        self._sockets = flows(address, connections)
        self._datagram = bytes(size)
        self._loop.add(self._ticker.descriptor, select.EPOLLIN, self._tick)
        self._sent = self._turn = 0
        self._before = arrived(self._counts)

    def run(self, until: float) -> None:
        """Send until then."""
        self._ticker.start(perf_counter_ns() + self._ticker.every_ns)
        self._loop.run(until)
        self._ticker.stop()

    def reset(self) -> None:
        """Forget what has been counted. Raises OSError if the server does not answer."""
        self._before = self._settled()
        self._failures.reset()
        self._sent = 0

    def result(self, seconds: float) -> Result:
        """Tell how many arrived, and how many did not. Raises OSError if the server does not answer."""
        got, sent = self._settled() - self._before, self._sent
        if not got:
            self._failures.add(TimeoutError("no datagram arrived"), len(self._sockets))
        failures, extra = self._failures, {"offered": sent / seconds / 1000}
        return Result(got, seconds, len(failures), lost=sent - got, error=failures.words, extra=extra)

    def close(self) -> None:
        """Close every socket."""
        for sock in self._sockets:
            sock.close()
        self._ticker.close()
        self._loop.close()

    def _tick(self) -> None:
        try:
            ticks = self._ticker.ticks()
        except BlockingIOError:
            return
        for _ in range(min(ticks, MOST_TICKS)):
            self._send_burst(self._sockets[self._turn])
            self._turn = (self._turn + 1) % len(self._sockets)

    def _send_burst(self, sock: socket.socket) -> None:
        """Send a burst on one flow. What the own host does not take (EAGAIN) has not been offered; what is refused has failed."""
        send, datagram, sent = sock.send, self._datagram, 0
        try:
            for _ in range(self._burst):
                send(datagram)
                sent += 1
        except BlockingIOError:
            pass
        except OSError as error:
            self._failures.add(error)
        self._sent += sent

    def _settled(self) -> int:
        """Give how many have arrived, once no more do."""
        last = arrived(self._counts)
        for _ in range(SETTLES):
            sleep(SETTLE_SECONDS)
            last, before = arrived(self._counts), last
            if last == before:
                break
        return last


def arrived(address: Address) -> int:
    """Ask the load's server how many datagrams it has discarded; raises OSError if it does not answer."""
    with socket.create_connection(address, timeout=CONNECT_SECONDS) as sock:
        words = sock.recv(100)
    if not words.strip().isdigit():
        raise ConnectionResetError(f"{address[0]}:{address[1]} does not tell how many datagrams arrived")
    return int(words)
