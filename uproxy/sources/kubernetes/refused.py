"""What of the API server's objects is refused: counted, logged once until it changes, told to the cluster where it is for it.

Owns what has been reported. Knows nothing of how it was found out. Invariant: `refused` counts what is refused now,
`total` what ever was, by reason: object (as a whole: its previous version stays) or field (the rest is served).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uproxy.core.annotations import is_annotation
from uproxy.core.model import EndpointSlice, Kind, Refusal
from uproxy.event_recorder import ClusterEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from uproxy.core.decode import Decoded
    from uproxy.core.model import ObjectKey
    from uproxy.event_recorder import EventRecorder
    from uproxy.log import Log

LOGGED: Final = 20
"""Refusals logged one by one of each batch or list: more would be a flood, and the metric counts them all."""


class RefusedObjects:
    """Keeps what each object is refused for."""

    def __init__(self, log: Log, recorder: EventRecorder) -> None:
        self.total: dict[str, int] = dict.fromkeys(("object", "field"), 0)
        self._log = log
        self._recorder = recorder
        self._known: dict[Kind, dict[ObjectKey, frozenset[Refusal]]] = {kind: {} for kind in Kind}
        self._fresh: list[tuple[Refusal, bool]] = []

    @property
    def refused(self) -> int:
        """How many things are refused now."""
        return sum(len(refusals) for known in self._known.values() for refusals in known.values())

    def note(self, kind: Kind, key: ObjectKey, found: Sequence[Decoded]) -> None:
        """Take in what came of decoding an object; it is reported by report()."""
        first = found[0]
        refusals = [each for each in found if isinstance(each, Refusal)]
        known = self._known[kind].pop(key, frozenset())
        for refusal in refusals:
            if refusal not in known:
                whole = refusal is first
                self.total["object" if whole else "field"] += 1
                self._fresh.append((refusal, whole))
                if refusal.wrong_family and isinstance(first, EndpointSlice):
                    self._recorder.record(_wrong_family(first, refusal))
                elif kind is Kind.SERVICE and is_annotation(refusal.field):
                    note = f"{refusal.field}: {refusal.reason}"
                    self._recorder.record(ClusterEvent("Warning", "AnnotationRefused", "ReadAnnotation", "Service", key, note))
        if refusals:
            self._known[kind][key] = frozenset(refusals)

    def forget(self, kind: Kind, key: ObjectKey) -> None:
        """Drop what is known of an object that is gone."""
        self._known[kind].pop(key, None)

    def retain(self, kind: Kind, keys: Collection[ObjectKey]) -> None:
        """Drop what is known of all objects but these."""
        for key in [key for key in self._known[kind] if key not in keys]:
            del self._known[kind][key]

    def report(self) -> None:
        """Log what is refused now and was not before."""
        fresh, self._fresh = self._fresh, []
        for refusal, whole in fresh[:LOGGED]:
            kept = {"kept": "its previous version, if there was one"} if whole else {}
            self._log.warning("object_refused", subject=refusal.subject, field=refusal.field, reason=refusal.reason, **kept)
        if len(fresh) > LOGGED:
            self._log.warning("object_refused_more", number=len(fresh) - LOGGED)


def _wrong_family(endpoint_slice: EndpointSlice, refusal: Refusal) -> ClusterEvent:
    """Make the Event that kube-proxy sends for it: users see it at their Service."""
    note = f"{refusal}; it gets no traffic"
    return ClusterEvent("Warning", "KubeProxyIncorrectIPVersion", "GatherEndpoints", "Service", endpoint_slice.service, note)
