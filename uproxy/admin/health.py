"""Whether this proxy is healthy: what /healthz and /livez answer.

Owns the rule: the first sync has ended, and no change has waited longer than twice the resync interval
(kube-proxy's rule, without its gap that a proxy which never synced counts as healthy). Pure: time is a parameter.
"""

from __future__ import annotations


class Health:
    """Fed by the reconciler, read by the servers. Times are monotonic seconds; patience is in seconds.

    node_is_eligible: False while this node is about to be removed (KEP-3836): nothing new should be sent here.
    """

    def __init__(self, patience: float, now: float) -> None:
        self.patience = patience
        self._waiting_since: float | None = now
        self.has_synced = False
        self.is_draining = False
        self.node_is_eligible = True
        self.last_synced: float | None = None
        self.last_failure = ""

    def queued(self, now: float) -> None:
        """Note a change that waits to be applied."""
        if self._waiting_since is None:
            self._waiting_since = now

    def not_listed(self, now: float) -> None:
        """Note that it is not known yet what there is to apply: a restart would not make the source answer any sooner."""
        self._waiting_since = now

    def synced(self, now: float, *, more: bool = False) -> None:
        """Note that everything queued has been applied; more: but further changes wait by now."""
        self.has_synced = True
        self.last_synced = now
        self.last_failure = ""
        self._waiting_since = now if more else None

    def failed(self, now: float, reason: str) -> None:
        """Note that a sync failed: what it should have applied waits."""
        self.last_failure = reason
        self.queued(now)

    def draining(self) -> None:
        """Note that the process is about to end: load balancers should go elsewhere, nobody need restart it."""
        self.is_draining = True

    def is_alive(self, now: float) -> bool:
        """Tell whether the proxy does its work (/livez). A start that takes long is not a reason to be restarted before patience ends."""
        return self._waiting_since is None or now - self._waiting_since <= self.patience

    def is_healthy(self, now: float) -> bool:
        """Tell whether traffic should be sent here (/healthz)."""
        return self.node_is_eligible and self.is_serving(now)

    def is_serving(self, now: float) -> bool:
        """Tell whether connections that come here are served, whatever becomes of the node (a Service's healthCheckNodePort)."""
        return self.has_synced and not self.is_draining and self.is_alive(now)
