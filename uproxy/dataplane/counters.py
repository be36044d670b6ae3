"""What the data path counts: plain integers, incremented on the hot path and read when somebody scrapes.

Knows nothing of metrics libraries. A ServicePort's Traffic lives as long as it has a listener or a
connection; then its numbers move into the totals, so that totals never fall.
"""

from __future__ import annotations


class Traffic:
    """What one ServicePort carried. received: bytes from clients; sent: bytes to clients."""

    __slots__ = ("accepted", "active", "datagrams_received", "datagrams_sent", "flows", "flows_active", "received", "sent")

    def __init__(self) -> None:
        self.accepted = 0
        self.active = 0
        self.received = 0
        self.sent = 0
        self.flows = 0
        self.flows_active = 0
        self.datagrams_received = 0
        self.datagrams_sent = 0

    def add(self, other: Traffic) -> None:
        """Take over the numbers of another one."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Counters:
    """What the whole data path counted beside each ServicePort's Traffic; reasons are errno names or words."""

    def __init__(self) -> None:
        self.connect_attempts = 0
        self.connect_failures: dict[str, int] = {}
        self.connections_failed = 0
        self.connections_reset: dict[str, int] = {}
        self.half_close_timeouts = 0
        self.accept_pauses: dict[str, int] = {}
        self.kept_addresses = 0
        self.kept_address_fallbacks: dict[str, int] = {}
        self.ejections = 0
        self.spliced_bytes = 0
        self.flow_evictions: dict[str, int] = {}
        self.datagrams_dropped: dict[str, int] = {}
