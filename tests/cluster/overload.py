"""An API server that has no time for one user: every request of theirs gets 429 and Retry-After.

Done with priority and fairness: the user's requests belong to a priority level without seats. Even such a level lets
one request at a time through when it is idle, so it is kept busy by somebody else's, which never ends.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.cluster.certificates import User

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.api_client import Document
    from tests.cluster.control_plane import ControlPlane

_API: Final = "flowcontrol.apiserver.k8s.io/v1"
_BUSY: Final = User("keeps-it-busy")
_NO_SEATS: Final = {"limitResponse": {"type": "Reject"}, "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0}
HIGHEST_PRECEDENCE: Final = 2
"""1 belongs to the API server's own exempt schema."""


@contextmanager
def overloaded(plane: ControlPlane, user: str, verbs: Sequence[str] = ("*",), *, name: str = "overloaded") -> Iterator[None]:
    """Refuse a user's requests with these verbs for a while, at most a minute; it takes a moment to begin and to end."""
    admin = plane.admin
    admin.create(_document("PriorityLevelConfiguration", name, {"type": "Limited", "limited": _NO_SEATS}))
    spec = {
        "priorityLevelConfiguration": {"name": name},
        "matchingPrecedence": HIGHEST_PRECEDENCE,
        "rules": [_rule(user, verbs), _rule(_BUSY.name, ("*",))],
    }
    admin.create(_document("FlowSchema", name, spec))
    try:
        with plane.client(_BUSY).held():
            yield
    finally:
        for kind in ("FlowSchema", "PriorityLevelConfiguration"):
            admin.delete(kind, name)


def _rule(user: str, verbs: Sequence[str]) -> Document:
    everything = {"apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    return {"subjects": [{"kind": "User", "user": {"name": user}}], "resourceRules": [{"verbs": list(verbs), **everything}]}


def _document(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, "spec": spec}
