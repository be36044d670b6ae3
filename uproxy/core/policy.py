"""Which routes a Service has on this node: its addresses, and the endpoints behind each of them.

Owns the rules of endpoint selection; knows one Service at a time (conflicts between Services are plan's)
and nothing of listeners. Invariant: the result does not depend on the order of slices and endpoints, and
equal input gives equal routes, so that a change that means nothing causes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from uproxy.core.addresses import Special, special
from uproxy.core.model import (
    NO_OPTIONS,
    AddressClass,
    Endpoint,
    EndpointSlice,
    Family,
    Protocol,
    Refusal,
    Route,
    RouteKey,
    Service,
    ServiceOptions,
    ServicePort,
    ServicePortName,
    SliceEndpoint,
    family_of,
)


class NodeView(Struct, frozen=True):
    """What policy knows of the node it decides for.

    node_port_addresses: where node ports are served. local_addresses: all addresses of this node.
    loopback_vips: whether a VIP may be a loopback address, which only clients of this machine can reach.
    zone: its topology.kubernetes.io/zone. external_ips: whether spec.externalIPs is served at all (CVE-2020-8554).
    inside: CIDRs of its pods and its own addresses: clients whose traffic was never outside.
    idle_timeout: seconds of silence that end a TCP connection of Services that say nothing of it; 0: none do.
    """

    name: str
    node_port_addresses: tuple[str, ...] = ()
    local_addresses: frozenset[str] = frozenset()
    loopback_vips: bool = False
    zone: str = ""
    external_ips: bool = True
    inside: tuple[str, ...] = ()
    idle_timeout: float = 0.0


NOBODY: Final = ()
"""The CIDRs that hold no client."""


class HealthCheck(Struct, frozen=True, gc=False):
    """What a load balancer asks this node about a Service: on which port, and the addresses of ready endpoints here to tell."""

    port: int
    local_endpoints: int


class ServiceRoutes(Struct, frozen=True):
    """The routes that a Service asks for, what of it cannot be served on this node, and its healthCheckNodePort if it has one."""

    routes: tuple[Route, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    health_check: HealthCheck | None = None


class Candidate(Struct, frozen=True, gc=False):
    """What is known of one endpoint once all slices are merged. local: it is on this node."""

    ready: bool
    fallback: bool
    local: bool
    for_nodes: tuple[str, ...] = ()
    for_zones: tuple[str, ...] = ()


Candidates = Mapping[Endpoint, Candidate]


class Chosen(Struct, frozen=True, gc=False):
    """The endpoints of one ServicePort and family: those of policy Cluster, those of policy Local, and all that serve anywhere."""

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    anywhere: frozenset[Endpoint]


def choose(candidates: Candidates, node: NodeView) -> Chosen:
    """Choose endpoints by readiness, topology and place.

    Among all, and among those on this node, the ready ones count; if none is ready, those that still serve while they
    terminate. Topology hints narrow down the ready ones of all nodes and nothing else (KEP-1669, KEP-2433).
    https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-to-terminating-endpoints
    """
    ready = {endpoint: one for endpoint, one in candidates.items() if one.ready}
    fallback = {endpoint: one for endpoint, one in candidates.items() if one.fallback}
    local_ready = sorted(endpoint for endpoint, one in ready.items() if one.local)
    return Chosen(
        cluster=tuple(sorted(near(ready, node) if ready else fallback)),
        local=tuple(local_ready or sorted(endpoint for endpoint, one in fallback.items() if one.local)),
        anywhere=frozenset(ready).union(fallback),
    )


def near(ready: Candidates, node: NodeView) -> Candidates:
    """Keep the endpoints that are hinted for this node, else for its zone; all where any lacks hints or none is meant.

    https://kubernetes.io/docs/concepts/services-networking/topology-aware-routing/#safeguards
    """
    if all(one.for_nodes for one in ready.values()):
        for_node = {endpoint: one for endpoint, one in ready.items() if node.name in one.for_nodes}
        if for_node:
            return for_node
    if node.zone and all(one.for_zones for one in ready.values()):
        for_zone = {endpoint: one for endpoint, one in ready.items() if node.zone in one.for_zones}
        if for_zone:
            return for_zone
    return ready


def routes_of(service: Service, slices: Collection[EndpointSlice], node: NodeView) -> ServiceRoutes:
    """Derive the routes of one Service, as if it were alone, from its slices."""
    refusals: list[Refusal] = []
    addresses = tuple(_addresses(service, node, refusals))
    routes: dict[RouteKey, Route] = {}
    for port in service.ports:
        for route in _routes_of_port(service, port, addresses, _ChosenByFamily(port, slices, node)):
            held = routes.setdefault(route.key, route)
            if held.service_port != route.service_port:
                refusals.append(_taken_twice(service, route, held))
    return ServiceRoutes(tuple(routes.values()), tuple(refusals), _health_check(service, slices, node))


def _health_check(service: Service, slices: Iterable[EndpointSlice], node: NodeView) -> HealthCheck | None:
    """Count the addresses of ready endpoints here. A pod has one of each family, so the family with the most of them counts."""
    if not service.health_check_node_port:
        return None
    found: dict[Family, set[str]] = {family: set() for family in Family}
    for one in slices:
        if one.ports:
            found[one.family].update(each.address for each in one.endpoints if each.ready and each.node_name == node.name)
    return HealthCheck(service.health_check_node_port, max(map(len, found.values())))


def _addresses(service: Service, node: NodeView, refusals: list[Refusal]) -> Iterator[tuple[AddressClass, str]]:
    """Give the addresses of a Service on this node with their classes; note those that cannot be served.

    Only those of families that the Service has: its load balancer may translate between families, so that an address of
    another one is not ours to refuse.
    The first class that an address is in counts: to be an external IP as well lifts no source ranges.
    """
    families = set(map(family_of, service.cluster_ips))
    for address_class, field, vips in (
        (AddressClass.CLUSTER_IP, "spec.clusterIPs", service.cluster_ips),
        (AddressClass.LOAD_BALANCER, "status.loadBalancer.ingress", service.load_balancer_ips),
        (AddressClass.EXTERNAL_IP, "spec.externalIPs", service.external_ips if node.external_ips else ()),
    ):
        for vip in vips:
            if reason := _unservable(address_class, vip, families, node):
                refusals.append(Refusal(f"Service {service.key}", field, reason))
            elif family_of(vip) in families:
                yield address_class, vip
    for address in node.node_port_addresses:
        if family_of(address) in families:
            yield AddressClass.NODE_PORT, address


def _unservable(address_class: AddressClass, vip: str, families: Collection[Family], node: NodeView) -> str:
    """Say what keeps an address from being served that somebody has to know about; "" if nothing does."""
    if not node.loopback_vips and special(vip) is Special.LOOPBACK:
        return f"{vip} is a loopback address: only the redirect back end none can serve it"
    if address_class is AddressClass.EXTERNAL_IP and family_of(vip) not in families:
        return f"{vip} is an IPv{family_of(vip)} address, and the Service has no cluster IP of that family"
    return ""


def _routes_of_port(
    service: Service, port: ServicePort, addresses: Iterable[tuple[AddressClass, str]], chosen: _ChosenByFamily
) -> Iterator[Route]:
    name = ServicePortName(service.key.namespace, service.key.name, port.name, port.protocol)
    for address_class, vip in addresses:
        number = port.node_port if address_class is AddressClass.NODE_PORT else port.port
        if number:
            key = RouteKey(vip, port.protocol, number)
            yield _route(Route(key, name, address_class), service, chosen.of(family_of(vip)), chosen.node)


def _options(service: Service, protocol: Protocol, node: NodeView) -> ServiceOptions:
    """Give what the Service's annotations ask for, of TCP alone, and the node's idle timeout where they say nothing of it."""
    if protocol is not Protocol.TCP:
        return NO_OPTIONS
    if not node.idle_timeout or service.options.idle_timeout:
        return service.options
    return replace(service.options, idle_timeout=node.idle_timeout)


def _route(bare: Route, service: Service, chosen: Chosen, node: NodeView) -> Route:
    """Put behind an address what its traffic policy says.

    An external address under policy Local leads pods and the node itself to the endpoints of policy Cluster: their
    traffic never was outside, and no load balancer could bring it to another node.
    """
    is_internal = bare.address_class is AddressClass.CLUSTER_IP
    is_local = service.internal_local if is_internal else service.external_local
    endpoints = chosen.local if is_local else chosen.cluster
    inside = chosen.cluster if is_local and not is_internal and chosen.cluster != endpoints else None
    silent = is_local and not endpoints and bool(chosen.anywhere)
    admitted = [_sources(service, bare.key.vip, node)] if bare.address_class is AddressClass.LOAD_BALANCER else []
    if silent:
        admitted.append(node.inside if inside else NOBODY)
    return Route(
        bare.key,
        bare.service_port,
        bare.address_class,
        endpoints,
        service.affinity_seconds,
        service.keep_client_address,
        inside=inside,
        silent=silent,
        admitted=tuple(cidrs for cidrs in admitted if cidrs is not None),
        options=_options(service, bare.key.protocol, node),
        still_serving=_still_serving(chosen, (*endpoints, *(inside or ()))) if bare.key.protocol is Protocol.UDP else (),
    )


def _still_serving(chosen: Chosen, taken: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Give the endpoints where a flow may stay: a change of policy, hints or readiness moves none, as connection tracking would not."""
    return tuple(sorted(chosen.anywhere.difference(taken)))


def _sources(service: Service, vip: str, node: NodeView) -> tuple[str, ...] | None:
    """Give who may use a load-balancer address; None: all. A list that is all of the other family restricts nothing, as in kube-proxy.

    This node may, if it is among them, also where the address is its own and so becomes the source of what it sends.
    """
    family = family_of(vip)
    ranges = tuple(sorted(cidr for cidr in service.source_ranges if family_of(cidr) is family))
    networks = tuple(map(ip_network, ranges))
    if any(ip_address(own) in network for network in networks for own in node.local_addresses):
        return (*ranges, f"{vip}/{32 if family is Family.IPV4 else 128}")
    return ranges or None


class _ChosenByFamily:
    """The endpoints of one ServicePort by family, each worked out at most once."""

    def __init__(self, port: ServicePort, slices: Collection[EndpointSlice], node: NodeView) -> None:
        self._port = port
        self._slices = slices
        self.node = node
        self._chosen: dict[Family, Chosen] = {}

    def of(self, family: Family) -> Chosen:
        chosen = self._chosen.get(family)
        if chosen is None:
            candidates = merge(self._port, family, self._slices, self.node)
            chosen = self._chosen[family] = choose(candidates, self.node)
        return chosen


def merge(port: ServicePort, family: Family, slices: Iterable[EndpointSlice], node: NodeView) -> Candidates:
    """Join the slices of one family on address and port, for one ServicePort.

    While an endpoint moves from one slice to another it is in both, in any order: the copy that says the
    endpoint is on this node counts, then the one that says it is usable.
    """
    merged: dict[Endpoint, Candidate] = {}
    for found in slices:
        if found.family is not family:
            continue
        numbers = [p.port for p in found.ports if p.name == port.name and p.protocol is port.protocol]
        for number in numbers:
            for one in found.endpoints:
                endpoint = Endpoint(one.address, number)
                candidate = _candidate(one, node.name)
                known = merged.get(endpoint)
                if known is None or _rank(candidate) > _rank(known):
                    merged[endpoint] = candidate
    return merged


def _candidate(one: SliceEndpoint, node_name: str) -> Candidate:
    return Candidate(one.ready, one.serving and one.terminating, one.node_name == node_name, one.for_nodes, one.for_zones)


def _rank(candidate: Candidate) -> tuple[bool, bool, bool, tuple[str, ...], tuple[str, ...]]:
    """Order copies: their hints decide last, only so that the order of slices does not."""
    return candidate.local, candidate.ready, candidate.fallback, candidate.for_nodes, candidate.for_zones


def _taken_twice(service: Service, route: Route, held: Route) -> Refusal:
    reason = f"{route.key} ({route.address_class}) is already served for the port {held.service_port.port!r} of the same Service"
    return Refusal(f"Service {service.key}", "spec.ports", reason)
