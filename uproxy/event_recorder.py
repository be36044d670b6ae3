"""What the cluster is told about this proxy: Events, in Kubernetes' own sense.

Owns their shape and the way to hand them over; knows nothing of where they go. Whoever reports something must not
wait for it: recording never blocks, never fails and may come to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from uproxy.core.model import ObjectKey
    from uproxy.log import Log


class ClusterEvent(Struct, frozen=True, gc=False):
    """One Event: what happened (reason), while what was done (action), about which Service or Node, in words (note).

    https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
    """

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    kind: Literal["Service", "Node"]
    key: ObjectKey
    note: str


class EventRecorder(Protocol):
    """Takes Events."""

    def record(self, event: ClusterEvent) -> None:
        """Hand over an Event; equal ones become one with a count."""


class NoRecorder:
    """The EventRecorder where there is no cluster to tell."""

    def record(self, event: ClusterEvent) -> None:
        """Do nothing: the log has said it already."""


class Reports(NamedTuple):
    """Where something is reported that concerns the operator of a node as well as the users of the cluster."""

    log: Log
    recorder: EventRecorder
