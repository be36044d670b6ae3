"""New connections, some at a time: connect, one request, its answer, close by the client or first by the server. Units are connections."""

from __future__ import annotations

from time import perf_counter, perf_counter_ns
from typing import Final

from bench.load.exchange import Exchange
from bench.load.generator import STUCK_NS, Address, Failures, Latencies, Loop, Result

REPLACED_NS: Final = 5_000_000_000
"""A connection that takes longer is counted as failed and replaced: the kernel has repeated its SYN twice by then."""
RENEW_SECONDS: Final = 0.05
"""How often connections that could not even be tried, or are stuck, are replaced."""


class Connections:
    """The other side must echo, and with until_end close after the first answer. Failures are counted by reason."""

    def __init__(self, address: Address, connections: int = 50, size: int = 64, *, until_end: bool = False) -> None:
        self.address = address
        self.request = bytes(size)
        self.until_end = until_end
        self.loop = Loop()
        self._latencies = Latencies()
        self._failures = Failures()
        self._exchanges = [Exchange(self) for _ in range(connections)]

    def run(self, until: float) -> None:
        """Open connections until then."""
        while (now := perf_counter()) < until:
            self._fail_older_than(REPLACED_NS)
            for exchange in self._exchanges:
                if not exchange.is_open:
                    exchange.open()
            self.loop.run(min(until, now + RENEW_SECONDS))

    def reset(self) -> None:
        """Forget what has been counted."""
        self._latencies.reset()
        self._failures.reset()

    def served(self, exchange: Exchange, nanoseconds: int) -> None:
        """Count a connection, and open the next one."""
        self._latencies.add(nanoseconds)
        exchange.close()
        exchange.open()

    def failed(self, _exchange: Exchange, error: OSError) -> None:
        """Count a failure."""
        self._failures.add(error)

    def result(self, seconds: float) -> Result:
        """Tell how many were served, and how quickly, and how many failed or are stuck."""
        self._fail_older_than(STUCK_NS)
        late, failures = self._latencies, self._failures
        return Result(len(late), seconds, len(failures), *late.quantiles(), error=failures.words)

    def close(self) -> None:
        """Close every connection."""
        for exchange in self._exchanges:
            exchange.close()
        self.loop.close()

    def _fail_older_than(self, nanoseconds: int) -> None:
        now = perf_counter_ns()
        for exchange in self._exchanges:
            if exchange.is_open and now - exchange.started > nanoseconds:
                exchange.fail(TimeoutError(f"no answer within {nanoseconds / 1e9:g} s"))
