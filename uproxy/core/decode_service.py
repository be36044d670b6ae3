"""Service as written -> Service as served: Kubernetes' defaults and rules for its fields.

Owns the rules of one Service's fields; knows nothing of other objects. What the API server would not let
pass is refused whole, so that what was valid before stays in force; single external addresses, SCTP ports
and annotations are left out alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uproxy.core.addresses import Special, canonical_cidr
from uproxy.core.annotations import KEEP_CLIENT_ADDRESS, annotation_field, options_of
from uproxy.core.model import NO_OPTIONS, Family, Protocol, Service, ServicePort, family_of
from uproxy.core.reading import Bad, Reading, Skipped, left_alone, port_name, port_number, usable_address
from uproxy.core.wire import WireMeta, WireService, WireServicePort, WireServiceSpec, WireServiceStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NO_VIPS: Final = frozenset({Special.UNSPECIFIED, Special.MULTICAST, Special.BROADCAST})
"""What no service address can be. Loopback is for policy to decide."""
_TYPES: Final = frozenset({None, "", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"})
_FAMILIES: Final = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
_PROTOCOLS: Final = {None: Protocol.TCP, "": Protocol.TCP, "TCP": Protocol.TCP, "UDP": Protocol.UDP}
_DEFAULT_AFFINITY: Final = 10_800
_LONGEST_AFFINITY: Final = 86_400


def service_of(wire: WireService, meta: WireMeta, reading: Reading) -> Service | Skipped:
    """Decode one Service. Raises Bad.

    https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/
    """
    spec = wire.spec or WireServiceSpec()
    reason = left_alone(meta, reading.proxy_name) or _not_served(spec)
    if reason is not None:
        return reading.skip(reason)
    return Service(
        key=reading.key,
        cluster_ips=_cluster_ips(spec),
        ports=_ports(spec.ports or (), reading),
        external_ips=_external_ips(spec.external_ips or (), reading) if spec.external_ips else (),
        load_balancer_ips=_load_balancer_ips(wire.status, reading) if spec.type == "LoadBalancer" else (),
        source_ranges=_source_ranges(spec.load_balancer_source_ranges or ()),
        internal_local=_is_local("spec.internalTrafficPolicy", spec.internal_traffic_policy),
        external_local=_is_local("spec.externalTrafficPolicy", spec.external_traffic_policy),
        health_check_node_port=_health_check_node_port(spec),
        affinity_seconds=_affinity_seconds(spec),
        keep_client_address=_keeps_client_address(meta, reading),
        options=options_of(meta.annotations, reading) if meta.annotations else NO_OPTIONS,
    )


def _not_served(spec: WireServiceSpec) -> str | None:
    if spec.type not in _TYPES:
        raise Bad("spec.type", f"must be ClusterIP, NodePort, LoadBalancer or ExternalName, not {spec.type!r}")
    if spec.type == "ExternalName":
        return "it is of type ExternalName: DNS serves it"
    first = _written_cluster_ips(spec)[0]
    if first == "None":
        return "it is headless"
    return None if first else "it has no clusterIP: uproxy allocates none, the API server or the author of a manifest must"


def _written_cluster_ips(spec: WireServiceSpec) -> Sequence[str | None]:
    return spec.cluster_ips or (spec.cluster_ip,)


def _cluster_ips(spec: WireServiceSpec) -> tuple[str, ...]:
    """Give a Service's own addresses, at most one per family; ipFamilies says which family stands where, if it is there."""
    written = _written_cluster_ips(spec)
    families = spec.ip_families or ()
    found: dict[Family, str] = {}
    for index, text in enumerate(written[: len(families)] if families else written):
        field = f"spec.clusterIPs[{index}]" if spec.cluster_ips else "spec.clusterIP"
        address, problem = usable_address(text, NO_VIPS, _family(families, index))
        if problem:
            raise Bad(field, problem)
        if found.setdefault(family_of(address), address) != address or len(found) <= index:
            raise Bad(field, "a Service has at most one address of each family")
    if spec.cluster_ip and usable_address(spec.cluster_ip, ())[0] != next(iter(found.values())):
        raise Bad("spec.clusterIP", "must be the same as spec.clusterIPs[0]")
    return tuple(found.values())


def _family(families: Sequence[str | None], index: int) -> Family | None:
    if not families:
        return None
    family = _FAMILIES.get(families[index] or "")
    if family is None:
        raise Bad(f"spec.ipFamilies[{index}]", f"must be IPv4 or IPv6, not {families[index]!r}")
    return family


def _external_ips(written: Sequence[object], reading: Reading) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for index, text in enumerate(written):
        address, problem = usable_address(text, NO_VIPS)
        if problem:
            reading.refuse(f"spec.externalIPs[{index}]", problem)
        else:
            found[address] = None
    return tuple(found)


def _load_balancer_ips(status: WireServiceStatus | None, reading: Reading) -> tuple[str, ...]:
    """Give the addresses that the nodes are to serve; those of ipMode Proxy are the load balancer's own business (KEP-1860)."""
    found: dict[str, None] = {}
    ingress = status.load_balancer.ingress if status and status.load_balancer else None
    for index, one in enumerate(ingress or ()):
        if one is None or not one.ip or one.ip_mode not in {None, "", "VIP"}:
            continue
        address, problem = usable_address(one.ip, NO_VIPS)
        if problem:
            reading.refuse(f"status.loadBalancer.ingress[{index}].ip", problem)
        else:
            found[address] = None
    return tuple(found)


def _source_ranges(written: Sequence[object]) -> tuple[str, ...]:
    """Give the ranges as canonical CIDRs. Raises Bad for one that cannot be read: leaving it out might let everybody in."""
    found: dict[str, None] = {}
    for index, text in enumerate(written):
        cidr = canonical_cidr(text.strip()) if isinstance(text, str) else None
        if cidr is None:
            raise Bad(f"spec.loadBalancerSourceRanges[{index}]", "must be a CIDR, like 192.0.2.0/24 or 2001:db8::/64")
        found[cidr] = None
    return tuple(found)


def _is_local(field: str, policy: str | None) -> bool:
    if policy not in {None, "", "Cluster", "Local"}:
        raise Bad(field, f"must be Cluster or Local, not {policy!r}")
    return policy == "Local"


def _health_check_node_port(spec: WireServiceSpec) -> int:
    """Give the port on which load balancers ask for this node's endpoints: only where traffic stays on the node."""
    if spec.type != "LoadBalancer" or spec.external_traffic_policy != "Local" or not spec.health_check_node_port:
        return 0
    return port_number(spec.health_check_node_port, "spec.healthCheckNodePort")


def _ports(written: Sequence[WireServicePort | None], reading: Reading) -> tuple[ServicePort, ...]:
    if not written:
        raise Bad("spec.ports", "at least one port is needed")
    ports = tuple(_each_port(written, reading))
    if len(ports) > 1:
        _check_unique(ports)
    return ports


def _each_port(written: Sequence[WireServicePort | None], reading: Reading) -> Iterator[ServicePort]:
    for index, port in enumerate(written):
        field = f"spec.ports[{index}]"
        if port is None:
            raise Bad(field, "must be a map, not null")
        number = port_number(port.port, f"{field}.port")
        node_port = port_number(port.node_port, f"{field}.nodePort") if port.node_port else 0
        name = port_name(port.name or "", f"{field}.name")
        if port.protocol == "SCTP":
            reading.refuse(f"{field}.protocol", "SCTP is not served: a proxy in user space carries TCP and UDP")
            continue
        protocol = _PROTOCOLS.get(port.protocol)
        if protocol is None:
            raise Bad(f"{field}.protocol", f"must be TCP or UDP, not {port.protocol!r}")
        yield ServicePort(name, protocol, number, node_port)


def _check_unique(ports: Sequence[ServicePort]) -> None:
    """Two ports of one protocol must differ in name, number and node port, for each of them identifies a port."""
    seen: set[tuple[str, Protocol, object]] = set()
    for port in ports:
        for field, value in (("name", port.name), ("port", port.port), ("nodePort", port.node_port)):
            mark = (field, port.protocol, value)
            if mark in seen and (field, value) != ("nodePort", 0):
                raise Bad("spec.ports", f"two {port.protocol} ports have the {field} {value!r}")
            seen.add(mark)


def _affinity_seconds(spec: WireServiceSpec) -> int | None:
    if spec.session_affinity in {None, "", "None"}:
        return None
    if spec.session_affinity != "ClientIP":
        raise Bad("spec.sessionAffinity", f"must be None or ClientIP, not {spec.session_affinity!r}")
    client_ip = spec.session_affinity_config and spec.session_affinity_config.client_ip
    seconds = client_ip.timeout_seconds if client_ip else None
    if seconds is None:
        return _DEFAULT_AFFINITY
    if not 1 <= seconds <= _LONGEST_AFFINITY:
        raise Bad("spec.sessionAffinityConfig.clientIP.timeoutSeconds", f"must be 1 to {_LONGEST_AFFINITY} seconds")
    return seconds


def _keeps_client_address(meta: WireMeta, reading: Reading) -> bool:
    wanted = (meta.annotations or {}).get(KEEP_CLIENT_ADDRESS, "auto")
    if wanted not in ("auto", "never"):  # a tuple: what is written there may have no hash
        reading.refuse(annotation_field(KEEP_CLIENT_ADDRESS), "must be auto or never; auto is used")
    return wanted != "never"
