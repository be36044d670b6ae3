"""What an API server says, as bytes: events of a watch, pages of a list, Statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.core.documents import Document, service_document

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES = "/api/v1/services"
ENDPOINT_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
NODES = "/api/v1/nodes"


def service(name: str, version: int, address: str = "10.96.0.1", **meta: object) -> Document:
    """Make a Service in namespace shop, at a resourceVersion."""
    return service_document({"clusterIP": address}, name=name, resourceVersion=str(version), **meta)


def without_kind(document: Document) -> Document:
    """Make an item of a list: it does not repeat its kind."""
    return {key: value for key, value in document.items() if key not in {"kind", "apiVersion"}}


def listed(*items: Document, version: int, more: str = "", kind: str = "ServiceList") -> bytes:
    """Make the body of a list, or of one of its pages when there are more (the continue token)."""
    metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
    body = {"kind": kind, "apiVersion": "v1", "metadata": metadata, "items": [without_kind(item) for item in items]}
    return msgspec.json.encode(body)


def event(kind: str, document: Document) -> bytes:
    """Make a line of a watch."""
    return msgspec.json.encode({"type": kind, "object": document}) + b"\n"


def added(document: Document) -> bytes:
    return event("ADDED", document)


def modified(document: Document) -> bytes:
    return event("MODIFIED", document)


def deleted(document: Document) -> bytes:
    return event("DELETED", document)


def bookmark(version: int, annotations: Mapping[str, str] | None = None) -> bytes:
    """Make a bookmark, which holds an object of the watched kind with nothing but metadata."""
    return event("BOOKMARK", {"kind": "Service", "metadata": {"resourceVersion": str(version), "annotations": annotations}})


def initial_events_end(version: int) -> bytes:
    """Make the end mark of a streamed list."""
    return bookmark(version, {"k8s.io/initial-events-end": "true"})


def status(code: int, reason: str, message: str = "") -> Document:
    """Make a metav1.Status."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}


def error(code: int, reason: str, message: str = "") -> bytes:
    """Make the line with which a watch ends in an error."""
    return event("ERROR", status(code, reason, message))
