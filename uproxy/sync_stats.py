"""What the reconciler counts about its rounds: plain numbers, read when somebody scrapes.

Knows nothing of metrics libraries.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from uproxy.core.model import EndpointSlice, Kind
from uproxy.core.state import Delete, Put
from uproxy.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uproxy.core.state import Event

# Seconds; kube-proxy's own buckets of sync_proxy_rules_duration_seconds (1 ms doubled 14 times) and
# network_programming_duration_seconds.
SYNC_BUCKETS: Final = tuple(0.001 * 2**power for power in range(15))
PROGRAMMING_BUCKETS: Final = (0.25, 0.5, *map(float, (*range(1, 60), *range(60, 120, 5), *range(120, 301, 30))))


class SyncStats:
    """Counts and times of syncs.

    durations: of rounds. programming: from what happened to a pod or Service to the end of the round that applied it.
    last_queued, last_synced: Unix seconds, 0 for never. pending: changes not yet applied, total: ever seen.
    no_local_endpoints: ServicePorts with endpoints, but none on this node where policy Local asks for one, by policy.
    refusals: parts of objects that are refused now. failed_listeners: addresses that cannot be bound now.
    """

    def __init__(self) -> None:
        self.durations = Histogram(SYNC_BUCKETS)
        self.programming = Histogram(PROGRAMMING_BUCKETS)
        self.last_queued = 0.0
        self.last_synced = 0.0
        self.service_changes_pending = 0
        self.service_changes_total = 0
        self.endpoint_changes_pending = 0
        self.endpoint_changes_total = 0
        self.failures = 0
        self.applies = 0
        self.repairs = 0
        self.refusals = 0
        self.failed_listeners = 0
        self.services = 0
        self.no_local_endpoints = {"internal": 0, "external": 0}

    def queued(self, events: Iterable[Event], unix_now: float) -> None:
        """Count changes that wait for a round."""
        for event in events:
            if _is_endpoints(event):
                self.endpoint_changes_pending += 1
                self.endpoint_changes_total += 1
            elif _is_service(event):
                self.service_changes_pending += 1
                self.service_changes_total += 1
        self.last_queued = unix_now

    def taken(self) -> None:
        """Note that a round has taken all changes."""
        self.service_changes_pending = self.endpoint_changes_pending = 0

    def synced(self, seconds: float, unix_now: float) -> None:
        """Note that a round ended well."""
        self.durations.add(seconds)
        self.last_synced = unix_now


class Laps:
    """How long the parts of a round took: milliseconds by name, for its log line."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, int] = {}
        self._last = time.monotonic()

    def end(self, part: str) -> None:
        """Note that a part has ended, and that the next one begins."""
        now = time.monotonic()
        self.milliseconds[f"{part}_milliseconds"] = round(1000 * (now - self._last))
        self._last = now


def _is_endpoints(event: Event) -> bool:
    if isinstance(event, Put):
        return isinstance(event.obj, EndpointSlice)
    return isinstance(event, Delete) and event.kind is Kind.ENDPOINT_SLICE


def _is_service(event: Event) -> bool:
    return isinstance(event, Put | Delete) and not _is_endpoints(event)
