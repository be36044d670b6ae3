"""Kubernetes objects as a manifest has them, to be varied in tests of decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from uproxy.core.decode import Decoded, Skipped, decode, decode_json
from uproxy.core.model import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

Document = dict[str, Any]


def service_document(spec: Document | None = None, **meta: object) -> Document:
    """Give a valid Service with one port; spec and meta replace single fields, a field set to ... is left out."""
    fields = {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}], **(spec or {})}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", **meta},
        "spec": {name: value for name, value in fields.items() if value is not ...},
    }


def slice_document(fields: Document | None = None, labels: Document | None = None, **meta: object) -> Document:
    """Give a valid EndpointSlice with one endpoint; a field set to ... is left out."""
    everything = {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"name": "http", "port": 8080}],
        **(fields or {}),
    }
    belonging = {"kubernetes.io/service-name": "web"} if labels is None else labels
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": belonging, **meta},
        **{name: value for name, value in everything.items() if value is not ...},
    }


def both_ways(document: object) -> tuple[Decoded, ...]:
    """Decode a document as it is and as JSON: the outcome is the same."""
    found = decode(document)
    assert found == decode_json(msgspec.json.encode(document))
    return found


def only(document: object) -> Decoded:
    """Decode a document that gives exactly one thing."""
    (found,) = both_ways(document)
    return found


def refused(found: Sequence[Decoded]) -> list[tuple[str, str]]:
    """Give the fields and reasons of what was refused."""
    return [(one.field, one.reason) for one in found if isinstance(one, Refusal)]


def skipped(document: object) -> Skipped:
    """Decode a document that is skipped."""
    found = only(document)
    assert isinstance(found, Skipped)
    return found
