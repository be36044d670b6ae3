"""What the connection to the API server counts: plain numbers, read when somebody scrapes.

Knows nothing of metrics libraries, and nothing of how requests are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uproxy.histogram import Histogram

if TYPE_CHECKING:
    from uproxy.core.model import Kind

# Seconds; client-go's own buckets of rest_client_request_duration_seconds.
BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


class ApiStats:
    """Counts and times of requests, watches and the state on disk.

    requests: by (method, host, code); code is an HTTP status or "<error>", as client-go writes it. latencies: by
    (verb, host), until the response's head. restarts: watches begun anew by (kind, reason). last_event: monotonic
    seconds of a kind's last list, event or bookmark. state_restored_from: Unix seconds at which the state that is
    served now was written to disk; None when the API server's own is served. state_saved: Unix seconds of the last
    time it was written, 0 for never. events_*: Events for the cluster.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], int] = {}
        self.latencies: dict[tuple[str, str], Histogram] = {}
        self.restarts: dict[tuple[Kind, str], int] = {}
        self.last_event: dict[Kind, float] = {}
        self.state_restored_from: float | None = None
        self.state_saved = 0.0
        self.state_failures = 0
        self.events_sent = 0
        self.events_dropped: dict[str, int] = {}

    def request(self, method: str, host: str, code: int | None, seconds: float) -> None:
        """Count a request; code: None when there was no answer. seconds: until the response's head."""
        key = (method, host, "<error>" if code is None else str(code))
        self.requests[key] = self.requests.get(key, 0) + 1
        self.latencies.setdefault((method, host), Histogram(BUCKETS)).add(seconds)

    def restarted(self, kind: Kind, reason: str) -> None:
        """Count a watch that is begun anew."""
        self.restarts[kind, reason] = self.restarts.get((kind, reason), 0) + 1

    def heard(self, kind: Kind, now: float) -> None:
        """Note a sign of life of a kind's list or watch at monotonic now."""
        self.last_event[kind] = now

    def event_dropped(self, reason: str) -> None:
        """Count an Event that came to nothing."""
        self.events_dropped[reason] = self.events_dropped.get(reason, 0) + 1
