"""Manifests for measurements: a Service and its EndpointSlice as plain documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Document = dict[str, Any]
NAMESPACE = "bench"


def service(name: str, cluster_ip: str, ports: Mapping[str, tuple[str, int]]) -> Document:
    """Give a v1 Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "ports": [{"name": port, "protocol": protocol, "port": number} for port, (protocol, number) in ports.items()],
        },
    }


def endpoint_slice(service_name: str, addresses: Sequence[str], ports: Mapping[str, tuple[str, int]]) -> Document:
    """Give the discovery.k8s.io/v1 EndpointSlice with all endpoints of a Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service_name}-1", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": port, "protocol": protocol, "port": number} for port, (protocol, number) in ports.items()],
    }
