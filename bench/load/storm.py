"""Connection storms: so many connects at once, each with one request, until all are answered; again and again. Units are connections.

extra: "all", the milliseconds from the first connect until the last answer (median of the storms), and "worst" (the longest).
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Final

from bench.load.exchange import Exchange
from bench.load.generator import Address, Failures, Latencies, Loop, Result

STORM_SECONDS: Final = 5.0
"""What has no answer by then has failed: the kernel has repeated its SYN twice."""
CALM_SECONDS: Final = 0.1
"""Between two storms: closing the connections of one is not to be in the way of the next."""


class Storm:
    """The other side must echo. All connections stay open until the last one is answered."""

    until_end = False

    def __init__(self, address: Address, connections: int = 1000, size: int = 64) -> None:
        self.address = address
        self.request = bytes(size)
        self.loop = Loop()
        self._latencies = Latencies()
        self._failures = Failures()
        self._exchanges = [Exchange(self) for _ in range(connections)]
        self._waiting: set[Exchange] = set()
        self._milliseconds: list[float] = []

    def run(self, until: float) -> None:
        """Make storms until then, one at least; it ends with a whole one."""
        self._storm()
        while perf_counter() < until:
            self._storm()

    def reset(self) -> None:
        """Forget what has been counted."""
        self._latencies.reset()
        self._failures.reset()
        self._milliseconds.clear()

    def served(self, exchange: Exchange, nanoseconds: int) -> None:
        """Count an answer."""
        self._latencies.add(nanoseconds)
        self._waiting.discard(exchange)

    def failed(self, exchange: Exchange, error: OSError) -> None:
        """Count a failure."""
        self._failures.add(error)
        self._waiting.discard(exchange)

    def result(self, seconds: float) -> Result:
        """Tell how many were served, and how quickly, and how many failed."""
        late, failures = self._latencies, self._failures
        extra = {"all": median(self._milliseconds), "worst": max(self._milliseconds)} if len(late) else {}
        return Result(len(late), seconds, len(failures), *late.quantiles(), error=failures.words, extra=extra)

    def close(self) -> None:
        """Close every connection."""
        for exchange in self._exchanges:
            exchange.close()
        self.loop.close()

    def _storm(self) -> None:
        began = perf_counter()
        self._waiting.update(self._exchanges)
        for exchange in self._exchanges:
            exchange.open()
        self.loop.run_while(lambda: self._waiting, began + STORM_SECONDS)
        for exchange in list(self._waiting):
            exchange.fail(TimeoutError(f"no answer within {STORM_SECONDS:g} s"))
        self._milliseconds.append((perf_counter() - began) * 1000)
        for exchange in self._exchanges:
            exchange.close()
        self.loop.run(perf_counter() + CALM_SECONDS)
