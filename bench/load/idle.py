"""Connections that are opened, used once, and then held without a byte. Units are those that are held."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from bench.load.exchange import Exchange
from bench.load.generator import Address, Failures, Latencies, Loop, Result

AT_ONCE: Final = 64
"""How many are being opened at a time: a storm is another load."""
OPEN_SECONDS: Final = 20.0
PATIENCE_SECONDS: Final = 3.0
"""When no connection has been answered for so long, the rest will not be."""


class Idle:
    """The other side must echo. All connections are open when the constructor returns; those that are not have failed."""

    until_end = False

    def __init__(self, address: Address, connections: int = 1000, size: int = 64) -> None:
        self.address = address
        self.request = bytes(size)
        self.loop = Loop()
        self._latencies = Latencies()
        self._failures = Failures()
        self._held: set[Exchange] = set()
        self._opening: set[Exchange] = set()
        self._left = connections
        self._open_all()

    def run(self, until: float) -> None:
        """Hold the connections until then."""
        self.loop.run(until)

    def reset(self) -> None:
        """Keep everything: what was opened before the measurement is what it is about."""

    def served(self, exchange: Exchange, nanoseconds: int) -> None:
        """Hold a connection that has been answered, and open another one."""
        self._latencies.add(nanoseconds)
        self._opening.discard(exchange)
        self._held.add(exchange)
        self._open_next()

    def failed(self, exchange: Exchange, error: OSError) -> None:
        """Count a failure, at the beginning or while it was held."""
        self._failures.add(error)
        self._opening.discard(exchange)
        self._held.discard(exchange)

    def result(self, seconds: float) -> Result:
        """Tell how many are held, how quickly they were opened, and how many failed or broke."""
        failures = self._failures
        return Result(len(self._held), seconds, len(failures), *self._latencies.quantiles(), error=failures.words)

    def close(self) -> None:
        """Close every connection."""
        for exchange in self._held:
            exchange.close()
        self.loop.close()

    def _open_all(self) -> None:
        deadline = perf_counter() + OPEN_SECONDS
        held = -1
        while (self._opening or self._left) and held < len(self._held):
            held = len(self._held)
            while self._left and len(self._opening) < AT_ONCE and perf_counter() < deadline:
                self._open_next()
            self._wait(held, min(deadline, perf_counter() + PATIENCE_SECONDS))
        for exchange in list(self._opening):
            exchange.fail(TimeoutError(f"no answer within {PATIENCE_SECONDS:g} s"))
        if self._left:
            self._failures.add(TimeoutError("not tried: the ones before were not answered"), self._left)
            self._left = 0

    def _wait(self, held: int, until: float) -> None:
        """Handle events until another connection is held."""
        self.loop.run_while(lambda: self._opening and len(self._held) == held, until)

    def _open_next(self) -> None:
        if self._left:
            self._left -= 1
            exchange = Exchange(self)
            self._opening.add(exchange)
            exchange.open()
