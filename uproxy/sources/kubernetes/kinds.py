"""The three collections that are watched, and which of their objects.

Owns paths and selectors, which are kube-proxy's. Knows nothing of how they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from uproxy.core.model import Kind
from uproxy.core.reading import HEADLESS, PROXY_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping


class Collection(Struct, frozen=True):
    """Objects of one kind. selectors: what is asked for; older: the same for a server that does not know a field of these (400)."""

    kind: Kind
    path: str
    selectors: Mapping[str, str]
    older: Mapping[str, str] | None = None


_NOT_HEADLESS: Final = f"!{HEADLESS}"


def collections(node_name: str, proxy_name: str = "") -> tuple[Collection, ...]:
    """Give what a proxy on this node watches; proxy_name: the one that Services must be labelled with, "" for none.

    A slice that somebody wrote by hand need not carry its Service's label, and no selector can say "this value or none":
    with a proxy name all slices come, and are told apart when they are decoded. The field selector needs Kubernetes 1.31.
    """
    service = {"labelSelector": f"{PROXY_NAME}={proxy_name},{_NOT_HEADLESS}" if proxy_name else f"!{PROXY_NAME},{_NOT_HEADLESS}"}
    endpoint_slice = {"labelSelector": _NOT_HEADLESS if proxy_name else f"!{PROXY_NAME},{_NOT_HEADLESS}"}
    return (
        Collection(Kind.SERVICE, "/api/v1/services", {**service, "fieldSelector": "spec.clusterIP!=None"}, service),
        Collection(Kind.ENDPOINT_SLICE, "/apis/discovery.k8s.io/v1/endpointslices", endpoint_slice),
        Collection(Kind.NODE, "/api/v1/nodes", {"fieldSelector": f"metadata.name={node_name}"}),
    )
