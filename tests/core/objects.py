"""Short ways to write the model's values down in a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uproxy.core.model import (
    AddressClass,
    Endpoint,
    EndpointSlice,
    ObjectKey,
    Protocol,
    Route,
    RouteKey,
    Service,
    ServicePort,
    ServicePortName,
    SliceEndpoint,
    SlicePort,
    family_of,
)
from uproxy.core.policy import ServiceRoutes

if TYPE_CHECKING:
    from collections.abc import Sequence

HTTP = ServicePort("http", Protocol.TCP, 80)


def key(name: str) -> ObjectKey:
    return ObjectKey("default", name)


def service(name: str = "web", *cluster_ips: str, ports: Sequence[ServicePort] = (HTTP,), external_ips: Sequence[str] = ()) -> Service:
    return Service(key(name), cluster_ips or ("10.96.0.1",), tuple(ports), tuple(external_ips))


def slice_of(
    name: str = "web-1",
    *endpoints: SliceEndpoint | str,
    of: str = "web",
    ports: Sequence[SlicePort] = (SlicePort("http", Protocol.TCP, 8080),),
) -> EndpointSlice:
    """Make a slice of the family of its first endpoint (IPv4 without any)."""
    found = tuple(SliceEndpoint(one) if isinstance(one, str) else one for one in endpoints)
    family = family_of(found[0].address if found else "0.0.0.0")
    return EndpointSlice(key(name), key(of), family, found, tuple(ports))


def route(vip: str, *endpoints: str, of: str = "web", port: int = 80, address_class: AddressClass = AddressClass.CLUSTER_IP) -> Route:
    """Make a TCP route to IPv4 endpoints written as address:port."""
    split = (one.rsplit(":", 1) for one in endpoints)
    found = tuple(Endpoint(address, int(number)) for address, number in split)
    return Route(RouteKey(vip, Protocol.TCP, port), ServicePortName("default", of, "http", Protocol.TCP), address_class, found)


def routes(*found: Route) -> ServiceRoutes:
    return ServiceRoutes(found)
