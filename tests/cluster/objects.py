"""Nodes, Pods, Services and slices for a real API server, and the part of a kubelet that says what became of a Pod."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.cluster.api_client import ApiClient, Document

ZONE_LABEL = "topology.kubernetes.io/zone"


def create_node(admin: ApiClient, name: str, addresses: Iterable[str], *, zone: str = "", pod_cidrs: Sequence[str] = ()) -> Document:
    """Make a Node with internal addresses, as a kubelet registers itself. Nodes have no namespace: delete it yourself."""
    labels = {"kubernetes.io/hostname": name, **({ZONE_LABEL: zone} if zone else {})}
    spec: Document = {"podCIDR": pod_cidrs[0], "podCIDRs": list(pod_cidrs)} if pod_cidrs else {}
    admin.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec})
    return set_node_addresses(admin, name, addresses)


def set_node_addresses(admin: ApiClient, name: str, addresses: Iterable[str]) -> Document:
    """Change a Node's internal addresses."""
    listed = [{"type": "InternalIP", "address": address} for address in addresses]
    return admin.patch("Node", name, {"status": {"addresses": listed}}, subresource="status")


def service(namespace: str, name: str, ports: Mapping[str, int], **spec: Any) -> Document:  # noqa: ANN401 - any field of a Service's spec
    """Make a Service for the Pods labelled app=NAME; TCP ports by name."""
    listed = [{"name": each, "port": port, "protocol": "TCP"} for each, port in ports.items()]
    body = {"selector": {"app": name}, "ports": listed, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": body}


def endpoint_slice(
    namespace: str, name: str, of: str, addresses: Sequence[str], ports: Mapping[str, int], *, ready: bool = True
) -> Document:
    """Make a slice of a Service's endpoints, for where no controller makes them; TCP ports by name."""
    metadata = {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": of}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv6" if ":" in "".join(addresses) else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
        "ports": [{"name": each, "port": port, "protocol": "TCP"} for each, port in ports.items()],
    }


def create_pod(
    admin: ApiClient,
    namespace: str,
    name: str,
    addresses: Sequence[str],
    *,
    node: str,
    labels: Mapping[str, str],
    ready: bool = True,
) -> Document:
    """Make a Pod that runs on a node and has these addresses (one of each family at most), ready or not yet."""
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "none"}], "terminationGracePeriodSeconds": 600}
    metadata = {"namespace": namespace, "name": name, "labels": dict(labels)}
    admin.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    status = {"phase": "Running", "podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]}
    return admin.patch("Pod", name, {"status": {**status, **_readiness(ready)}}, namespace, subresource="status")


def set_ready(admin: ApiClient, namespace: str, name: str, *, ready: bool) -> Document:
    """Say that a Pod's readiness probe succeeded or failed."""
    return admin.patch("Pod", name, {"status": _readiness(ready)}, namespace, subresource="status")


def _readiness(ready: bool) -> Document:  # noqa: FBT001 - the value of the condition
    state = "True" if ready else "False"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kinds = ("Ready", "ContainersReady")
    return {"conditions": [{"type": kind, "status": state, "lastTransitionTime": now} for kind in kinds]}
