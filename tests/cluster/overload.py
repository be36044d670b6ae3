"""An API server that has no time for one user: priority and fairness with no seats, so that every request gets 429."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.api_client import ApiClient, Document

_API: Final = "flowcontrol.apiserver.k8s.io/v1"


@contextmanager
def overloaded(admin: ApiClient, user: str, *, verbs: tuple[str, ...] = ("*",), name: str = "overloaded") -> Iterator[None]:
    """Answer a user's requests with these verbs by 429 and Retry-After for a while; it takes a moment to begin and to end."""
    limited = {"limitResponse": {"type": "Reject"}, "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0}
    admin.create(_document("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited}))
    subject = {"kind": "User", "user": {"name": user}}
    resources = [{"verbs": list(verbs), "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}]
    rules = [{"subjects": [subject], "resourceRules": resources}]
    spec = {"priorityLevelConfiguration": {"name": name}, "matchingPrecedence": 1, "rules": rules}
    admin.create(_document("FlowSchema", name, spec))
    try:
        yield
    finally:
        for kind in ("FlowSchema", "PriorityLevelConfiguration"):
            admin.delete(kind, name)


def _document(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, "spec": spec}
