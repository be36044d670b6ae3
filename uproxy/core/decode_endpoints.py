"""EndpointSlice and Node as written -> as used: Kubernetes' defaults and rules for their fields.

Owns the rules of these objects' fields; knows nothing of the Service they belong to. A slice's ports are
refused with the slice; a single endpoint, and a single address or CIDR of a Node, is left out alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uproxy.core.addresses import Special, canonical_cidr
from uproxy.core.model import EndpointSlice, Family, Node, ObjectKey, Protocol, SliceEndpoint, SlicePort
from uproxy.core.reading import Bad, Reading, Skipped, left_alone, port_name, port_number, usable_address
from uproxy.core.wire import (
    WireConditions,
    WireEndpoint,
    WireHint,
    WireHints,
    WireMeta,
    WireNode,
    WireNodeAddress,
    WireNodeSpec,
    WireNodeStatus,
    WireSlice,
    WireSlicePort,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SERVICE_NAME: Final = "kubernetes.io/service-name"
_ZONE: Final = "topology.kubernetes.io/zone"
_FAMILIES: Final = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
_PROTOCOLS: Final = {None: Protocol.TCP, "": Protocol.TCP, "TCP": Protocol.TCP, "UDP": Protocol.UDP}
_NO_ENDPOINTS: Final = frozenset({Special.UNSPECIFIED, Special.MULTICAST, Special.BROADCAST, Special.LINK_LOCAL})
"""What no endpoint can be. Loopback can: it is a process of this machine."""
_NO_CONDITIONS: Final = WireConditions()
_NO_HINTS: Final = WireHints()
_NODE_ADDRESS_TYPES: Final = ("InternalIP", "ExternalIP")
_LEAVING: Final = "ToBeDeletedByClusterAutoscaler"
"""The taint of a node that the cluster autoscaler is about to remove."""


def slice_of(wire: WireSlice, meta: WireMeta, reading: Reading) -> EndpointSlice | Skipped:
    """Decode one EndpointSlice. Raises Bad.

    https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
    """
    reason = left_alone(meta, reading.proxy_name, inherited=True)
    if reason:
        return reading.skip(reason)
    if wire.address_type == "FQDN":
        return reading.skip("its addressType is FQDN: only IP addresses are served")
    service = (meta.labels or {}).get(_SERVICE_NAME)
    if not isinstance(service, str) or not service:
        return reading.skip(f"no label {_SERVICE_NAME} says which Service it belongs to")
    family = _FAMILIES.get(wire.address_type or "")
    if family is None:
        raise Bad("addressType", f"must be IPv4 or IPv6, not {wire.address_type!r}" if wire.address_type else "is missing: IPv4 or IPv6")
    return EndpointSlice(
        key=reading.key,
        service=ObjectKey(reading.key.namespace, service),
        family=family,
        endpoints=tuple(_endpoints(wire.endpoints or (), family, reading)),
        ports=tuple(_ports(wire.ports or (), reading)),
    )


def _ports(written: Sequence[WireSlicePort | None], reading: Reading) -> Iterator[SlicePort]:
    for index, port in enumerate(written):
        field = f"ports[{index}]"
        if port is None or port.name is None:
            reading.refuse(f"{field}.name", 'is missing, so that it belongs to no port of the Service: an unnamed one is written name: ""')
        elif not port.port:
            reading.refuse(f"{field}.port", "is missing: a port without a number cannot be served")
        elif port.protocol != "SCTP":
            protocol = _PROTOCOLS.get(port.protocol)
            if protocol is None:
                raise Bad(f"{field}.protocol", f"must be TCP or UDP, not {port.protocol!r}")
            yield SlicePort(port_name(port.name, f"{field}.name"), protocol, port_number(port.port, f"{field}.port"))


def _endpoints(written: Sequence[WireEndpoint | None], family: Family, reading: Reading) -> Iterator[SliceEndpoint]:
    """Give the usable endpoints. Only the first address counts: the API says that all of one endpoint are the same."""
    for index, one in enumerate(written):
        if one is None or not one.addresses:
            continue
        address, problem = usable_address(one.addresses[0], _NO_ENDPOINTS, family)
        if problem:
            would_do = not usable_address(one.addresses[0], _NO_ENDPOINTS)[1]
            reading.refuse(f"endpoints[{index}].addresses[0]", problem, wrong_family=would_do)
            continue
        conditions, hints = one.conditions or _NO_CONDITIONS, one.hints or _NO_HINTS
        yield SliceEndpoint(
            address,
            ready=conditions.ready is not False,
            serving=conditions.serving is not False,
            terminating=conditions.terminating is True,
            node_name=one.node_name or None,
            for_nodes=_names(hints.for_nodes),
            for_zones=_names(hints.for_zones),
        )


def _names(hints: Sequence[WireHint | None] | None) -> tuple[str, ...]:
    return tuple(hint.name for hint in hints if hint and hint.name) if hints else ()


def node_of(wire: WireNode, meta: WireMeta, reading: Reading) -> Node:
    """Decode one Node.

    https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/node-v1/
    """
    spec, status = wire.spec or WireNodeSpec(), wire.status or WireNodeStatus()
    zone = (meta.labels or {}).get(_ZONE)
    return Node(
        name=reading.key.name,
        addresses=_node_addresses(status.addresses or (), reading),
        pod_cidrs=_pod_cidrs(spec, reading),
        zone=zone if isinstance(zone, str) else "",
        eligible=not meta.deletion_timestamp and not any(taint and taint.key == _LEAVING for taint in spec.taints or ()),
    )


def _node_addresses(written: Sequence[WireNodeAddress | None], reading: Reading) -> tuple[str, ...]:
    found: dict[str, dict[str, None]] = {wanted: {} for wanted in _NODE_ADDRESS_TYPES}
    for index, one in enumerate(written):
        if one is None or one.type not in found:
            continue
        address, problem = usable_address(one.address, _NO_ENDPOINTS)
        if problem:
            reading.refuse(f"status.addresses[{index}].address", problem)
        else:
            found[one.type][address] = None
    return tuple(dict.fromkeys(address for wanted in _NODE_ADDRESS_TYPES for address in found[wanted]))


def _pod_cidrs(spec: WireNodeSpec, reading: Reading) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for index, text in enumerate(spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else [])):
        cidr = canonical_cidr(text) if isinstance(text, str) else None
        if cidr is None:
            field = f"spec.podCIDRs[{index}]" if spec.pod_cidrs else "spec.podCIDR"
            reading.refuse(field, "must be a CIDR, like 10.244.1.0/24 or fd00:1::/64")
        else:
            found[cidr] = None
    return tuple(found)
