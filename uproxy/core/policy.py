"""Which routes a Service has on this node: its addresses, and the endpoints behind each of them.

Owns the rules of endpoint selection; knows one Service at a time (conflicts between Services are plan's)
and nothing of listeners. Invariant: the result does not depend on the order of slices and endpoints, and
equal input gives equal routes, so that a change that means nothing causes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from uproxy.core.addresses import Special, special
from uproxy.core.model import (
    AddressClass,
    Endpoint,
    EndpointSlice,
    Family,
    Refusal,
    Route,
    RouteKey,
    Service,
    ServicePort,
    ServicePortName,
    SliceEndpoint,
    family_of,
)


class NodeView(Struct, frozen=True):
    """What policy knows of the node it decides for.

    node_port_addresses: where node ports are served. local_addresses: all addresses of this node.
    loopback_vips: whether a VIP may be a loopback address, which only clients of this machine can reach.
    """

    name: str
    node_port_addresses: tuple[str, ...] = ()
    local_addresses: frozenset[str] = frozenset()
    loopback_vips: bool = False


class ServiceRoutes(Struct, frozen=True):
    """The routes that a Service asks for, and what of it cannot be served on this node."""

    routes: tuple[Route, ...] = ()
    refusals: tuple[Refusal, ...] = ()


class Candidate(Struct, frozen=True, gc=False):
    """What is known of one endpoint once all slices are merged."""

    ready: bool
    fallback: bool
    local: bool


Candidates = Mapping[Endpoint, Candidate]


def cluster_endpoints(candidates: Candidates) -> tuple[Endpoint, ...]:
    """Choose among all endpoints: the ready ones; if none is ready, those that still serve while they terminate.

    https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-to-terminating-endpoints
    """
    ready = sorted(endpoint for endpoint, candidate in candidates.items() if candidate.ready)
    return tuple(ready or sorted(endpoint for endpoint, candidate in candidates.items() if candidate.fallback))


SELECTION: Final[Mapping[AddressClass, Callable[[Candidates], tuple[Endpoint, ...]]]] = {
    AddressClass.CLUSTER_IP: cluster_endpoints,
    AddressClass.EXTERNAL_IP: cluster_endpoints,
    AddressClass.NODE_PORT: cluster_endpoints,
}
"""How endpoints are chosen for each class of address."""


def routes_of(service: Service, slices: Collection[EndpointSlice], node: NodeView) -> ServiceRoutes:
    """Derive the routes of one Service, as if it were alone, from its slices."""
    refusals: list[Refusal] = []
    addresses = tuple(_addresses(service, node, refusals))
    routes: dict[RouteKey, Route] = {}
    for port in service.ports:
        for route in _routes_of_port(service, port, addresses, _Selected(port, slices, node)):
            held = routes.setdefault(route.key, route)
            if held.service_port != route.service_port:
                refusals.append(_taken_twice(service, route, held))
    return ServiceRoutes(tuple(routes.values()), tuple(refusals))


def _addresses(service: Service, node: NodeView, refusals: list[Refusal]) -> Iterator[tuple[AddressClass, str]]:
    """Give the addresses of a Service on this node with their classes; note those that cannot be served."""
    for address_class, field, vips in (
        (AddressClass.CLUSTER_IP, "spec.clusterIPs", service.cluster_ips),
        (AddressClass.EXTERNAL_IP, "spec.externalIPs", service.external_ips),
    ):
        for vip in vips:
            if not node.loopback_vips and special(vip) is Special.LOOPBACK:
                reason = f"{vip} is a loopback address: only the redirect back end none can serve it"
                refusals.append(Refusal(f"Service {service.key}", field, reason))
            else:
                yield address_class, vip
    for address in node.node_port_addresses:
        yield AddressClass.NODE_PORT, address


def _routes_of_port(
    service: Service, port: ServicePort, addresses: Iterable[tuple[AddressClass, str]], selected: _Selected
) -> Iterator[Route]:
    name = ServicePortName(service.key.namespace, service.key.name, port.name, port.protocol)
    for address_class, vip in addresses:
        number = port.node_port if address_class is AddressClass.NODE_PORT else port.port
        if number:
            key = RouteKey(vip, port.protocol, number)
            endpoints = selected.endpoints(address_class, family_of(vip))
            yield Route(key, name, address_class, endpoints, service.affinity_seconds, service.keep_client_address)


class _Selected:
    """The endpoints of one ServicePort by class of address and family, each worked out at most once."""

    def __init__(self, port: ServicePort, slices: Collection[EndpointSlice], node: NodeView) -> None:
        self._port = port
        self._slices = slices
        self._node = node
        self._candidates: dict[Family, Candidates] = {}
        self._chosen: dict[tuple[object, Family], tuple[Endpoint, ...]] = {}

    def endpoints(self, address_class: AddressClass, family: Family) -> tuple[Endpoint, ...]:
        select = SELECTION[address_class]
        chosen = self._chosen.get((select, family))
        if chosen is None:
            if family not in self._candidates:
                self._candidates[family] = merge(self._port, family, self._slices, self._node)
            chosen = self._chosen[select, family] = select(self._candidates[family])
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
    return Candidate(one.ready, one.serving and one.terminating, one.node_name == node_name)


def _rank(candidate: Candidate) -> tuple[bool, bool, bool]:
    return candidate.local, candidate.ready, candidate.fallback


def _taken_twice(service: Service, route: Route, held: Route) -> Refusal:
    reason = f"{route.key} ({route.address_class}) is already served for the port {held.service_port.port!r} of the same Service"
    return Refusal(f"Service {service.key}", "spec.ports", reason)
