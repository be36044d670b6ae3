"""Kubernetes objects as they are written: the fields that are read, with the types they must have.

Owns the typed structs that msgspec fills and the words for what does not fit them; knows no rule about
values. Everything may be null or missing, as in Go. Parts that may be bad without the rest being bad are
left untyped (object) and are looked at by who decodes them.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What reading hostile input raises: a wrong type, text that is no Unicode, nesting without end."""


class _Wire(Struct, rename="camel", gc=False):
    """Fields are camelCase; unknown ones are passed over; only reachable while an object is decoded."""


class WireMeta(_Wire):
    """ObjectMeta. Keys of the maps may be anything, for YAML makes numbers of some."""

    name: str | None = None
    namespace: str | None = None
    labels: dict[object, object] | None = None
    annotations: dict[object, object] | None = None
    deletion_timestamp: object = None


class WireServicePort(_Wire):
    """An entry of spec.ports. targetPort is not read: slices carry the numbers."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    node_port: int | None = None


class WireClientIP(_Wire):
    """sessionAffinityConfig.clientIP."""

    timeout_seconds: int | None = None


class WireAffinityConfig(_Wire):
    """sessionAffinityConfig."""

    client_ip: WireClientIP | None = msgspec.field(name="clientIP", default=None)


class WireServiceSpec(_Wire):
    """A Service's spec."""

    type: str | None = None
    cluster_ip: str | None = msgspec.field(name="clusterIP", default=None)
    cluster_ips: list[str | None] | None = msgspec.field(name="clusterIPs", default=None)
    ip_families: list[str | None] | None = None
    external_ips: list[object] | None = msgspec.field(name="externalIPs", default=None)
    ports: list[WireServicePort | None] | None = None
    session_affinity: str | None = None
    session_affinity_config: WireAffinityConfig | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    health_check_node_port: int | None = None
    load_balancer_source_ranges: list[object] | None = None


class WireIngress(_Wire):
    """An entry of status.loadBalancer.ingress. Its ports are errors for people to read."""

    ip: object = None
    ip_mode: str | None = None


class WireLoadBalancer(_Wire):
    """status.loadBalancer."""

    ingress: list[WireIngress | None] | None = None


class WireServiceStatus(_Wire):
    """A Service's status."""

    load_balancer: WireLoadBalancer | None = None


class WireService(_Wire):
    """A v1 Service."""

    metadata: WireMeta | None = None
    spec: WireServiceSpec | None = None
    status: WireServiceStatus | None = None


class WireConditions(_Wire):
    """An endpoint's conditions."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class WireHint(_Wire):
    """An entry of an endpoint's hints.forNodes or hints.forZones."""

    name: str | None = None


class WireHints(_Wire):
    """An endpoint's hints."""

    for_nodes: list[WireHint | None] | None = None
    for_zones: list[WireHint | None] | None = None


class WireEndpoint(_Wire):
    """An entry of an EndpointSlice's endpoints."""

    addresses: list[object] | None = None
    conditions: WireConditions | None = None
    node_name: str | None = None
    hints: WireHints | None = None


class WireSlicePort(_Wire):
    """An entry of an EndpointSlice's ports."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class WireSlice(_Wire):
    """A discovery.k8s.io/v1 EndpointSlice."""

    metadata: WireMeta | None = None
    address_type: str | None = None
    endpoints: list[WireEndpoint | None] | None = None
    ports: list[WireSlicePort | None] | None = None


class WireTaint(_Wire):
    """An entry of a Node's spec.taints."""

    key: object = None


class WireNodeSpec(_Wire):
    """A Node's spec."""

    pod_cidr: object = msgspec.field(name="podCIDR", default=None)
    pod_cidrs: list[object] | None = msgspec.field(name="podCIDRs", default=None)
    taints: list[WireTaint | None] | None = None


class WireNodeAddress(_Wire):
    """An entry of a Node's status.addresses."""

    type: str | None = None
    address: object = None


class WireNodeStatus(_Wire):
    """A Node's status."""

    addresses: list[WireNodeAddress | None] | None = None


class WireNode(_Wire):
    """A v1 Node."""

    metadata: WireMeta | None = None
    spec: WireNodeSpec | None = None
    status: WireNodeStatus | None = None


_MISMATCH: Final = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`)?(?: - at `(.*)`)?")
_PLACE: Final = re.compile(r" - at (?:`key` in )?`(.*)`$")
_WORDS: Final = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "array": "a list",
    "object": "a map",
    "datetime": "a timestamp",
    "null": "null",
}
_UNQUOTED: Final = frozenset({"int", "float", "bool", "date", "datetime", "time"})
"""What YAML makes of a text without quotes that looks like something else."""


def explain(error: Exception, field: str = "") -> tuple[str, str]:
    """Put an error of UNREADABLE, met while reading the value at field, into words: the exact field and the reason."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return field, "is nested too deeply" if isinstance(error, RecursionError) else f"cannot be read: {text}"
    place = _PLACE.search(text)
    exact = field + (place.group(1).removeprefix("$") if place else "")
    mismatch = _MISMATCH.match(text)
    return exact.removeprefix("."), _mismatch(mismatch.group(1), mismatch.group(2) or "") if mismatch else _PLACE.sub("", text)


def _mismatch(expected: str, found: str) -> str:
    expected = expected.removesuffix(" | null")
    reason = f"must be {_WORDS.get(expected, expected)}"
    if found:
        reason += f", not {_WORDS.get(found, f'a {found}')}"
    if expected == "str" and found in _UNQUOTED:
        return reason + ": put it in quotes"
    return reason + ": leave the quotes away" if (expected, found) == ("int", "str") else reason
