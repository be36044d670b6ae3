"""What the data path counts: plain integers, incremented on the hot path and read when somebody scrapes.

Knows nothing of metrics libraries. A ServicePort's Traffic lives as long as it has a listener or a
connection; then its numbers move into the totals. Invariant: totals never fall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uproxy.core.model import ServicePortName


class Meter:
    """Bytes carried in one direction: an object of its own, so that a relay need not know which direction it is."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Traffic:
    """What one ServicePort carried: connections (TCP), flows and datagrams (UDP), and bytes from (upload) and to clients (download)."""

    __slots__ = ("accepted", "active", "datagrams_received", "datagrams_sent", "download", "flows", "flows_active", "upload")

    def __init__(self) -> None:
        self.accepted = 0
        self.active = 0
        self.upload = Meter()
        self.download = Meter()
        self.flows = 0
        self.flows_active = 0
        self.datagrams_received = 0
        self.datagrams_sent = 0

    @property
    def received(self) -> int:
        """Bytes from clients."""
        return self.upload.bytes

    @received.setter
    def received(self, value: int) -> None:
        self.upload.bytes = value

    @property
    def sent(self) -> int:
        """Bytes to clients."""
        return self.download.bytes

    @sent.setter
    def sent(self, value: int) -> None:
        self.download.bytes = value

    def add(self, other: Traffic) -> None:
        """Take over the numbers of another one."""
        for name in ("accepted", "active", "received", "sent", "flows", "flows_active", "datagrams_received", "datagrams_sent"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class TrafficRegister:
    """The Traffic of every ServicePort that has a listener or a connection, and the sum of those that had."""

    def __init__(self) -> None:
        self._living: dict[ServicePortName, Traffic] = {}
        self._holders: dict[ServicePortName, int] = {}
        self._past = Traffic()

    def acquire(self, service_port: ServicePortName) -> Traffic:
        """Give the ServicePort's Traffic, shared by all its listeners; each calls release() when it has drained."""
        self._holders[service_port] = self._holders.get(service_port, 0) + 1
        return self._living.setdefault(service_port, Traffic())

    def release(self, service_port: ServicePortName) -> None:
        """Let go of the ServicePort's Traffic; the last holder's release moves it into the totals."""
        self._holders[service_port] -= 1
        if not self._holders[service_port]:
            del self._holders[service_port]
            self._past.add(self._living.pop(service_port))

    def __iter__(self) -> Iterator[tuple[ServicePortName, Traffic]]:
        return iter(self._living.items())

    def totals(self) -> Traffic:
        """Sum up everything that was ever carried."""
        total = Traffic()
        total.add(self._past)
        for traffic in self._living.values():
            total.add(traffic)
        return total


class Counters:
    """What the whole data path counted beside each ServicePort's Traffic; reasons are errno names or words.

    From least_connections on: what annotations brought about. held: connections that wait for an endpoint now.
    """

    def __init__(self) -> None:
        self.connect_attempts = 0
        self.connect_failures: dict[str, int] = {}
        self.connections_failed = 0
        self.connections_reset: dict[str, int] = {}
        self.half_close_timeouts = 0
        self.accept_errors: dict[str, int] = {}
        self.accept_pauses: dict[str, int] = {}
        self.kept_addresses = 0
        self.kept_address_fallbacks: dict[str, int] = {}
        self.ejections = 0
        self.spliced_bytes = 0
        self.flow_evictions: dict[str, int] = {}
        self.datagrams_dropped: dict[str, int] = {}
        self.least_connections = 0
        self.proxy_headers: dict[str, int] = {}
        self.connections_drained = 0
        self.connections_over_limit = 0
        self.idle_timeouts = 0
        self.held = 0
        self.hold_outcomes: dict[str, int] = {}


def count(reasons: dict[str, int], reason: str) -> None:
    """Add one to the number of a reason."""
    reasons[reason] = reasons.get(reason, 0) + 1
