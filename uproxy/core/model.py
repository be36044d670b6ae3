"""The facts uproxy works with: Services, EndpointSlices, Nodes, and the routes derived from them.

Owns the names and shapes only; knows nothing of where objects come from (decode) or what follows from
them (policy). Every value is immutable, compares by content, and holds only the fields that matter here.
Addresses are canonical text ("10.96.0.1", "fd00::1"), ports are 1 to 65535, durations are seconds.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from msgspec import Struct


class Protocol(StrEnum):
    """The transport protocols that are proxied. SCTP is refused when an object is decoded."""

    TCP = "TCP"
    UDP = "UDP"


class Family(IntEnum):
    """The IP family of an address."""

    IPV4 = 4
    IPV6 = 6


def family_of(address: str) -> Family:
    """Give the family of a canonical address."""
    return Family.IPV6 if ":" in address else Family.IPV4


class Kind(StrEnum):
    """The kinds of objects that are watched."""

    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    NODE = "Node"


class AddressClass(StrEnum):
    """Where a route's address comes from. Internal and external ones can have different endpoints."""

    CLUSTER_IP = "ClusterIP"
    EXTERNAL_IP = "externalIP"
    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"


class ObjectKey(NamedTuple):
    """An object's place in the API. Nodes have no namespace: theirs is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ServicePortName(NamedTuple):
    """A ServicePort's identity: it stays while port number, addresses and endpoints change."""

    namespace: str
    name: str
    port: str
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port}/{self.protocol}"


class Endpoint(NamedTuple):
    """What a connection is opened to."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class RouteKey(NamedTuple):
    """What a client connects to: one address, one protocol, one port."""

    vip: str
    protocol: Protocol
    port: int

    def __str__(self) -> str:
        host = f"[{self.vip}]" if ":" in self.vip else self.vip
        return f"{host}:{self.port}/{self.protocol}"


class ServicePort(Struct, frozen=True, gc=False):
    """One entry of spec.ports. An unnamed port has the name ""; node_port 0 means none."""

    name: str
    protocol: Protocol
    port: int
    node_port: int = 0


class ServiceOptions(Struct, frozen=True, gc=False):
    """What a Service's annotations uproxy.io/... ask for, of TCP alone (docs/annotations.md); everything is off by default.

    drain, hold, idle_timeout: seconds, 0: off. proxy_protocol: the version, 0: none. max_connections: 0: any number.
    """

    least_connections: bool = False
    drain: float = 0.0
    proxy_protocol: int = 0
    hold: float = 0.0
    max_connections: int = 0
    idle_timeout: float = 0.0


NO_OPTIONS: Final = ServiceOptions()


class Service(Struct, frozen=True, gc=False):
    """A Service that has addresses to serve: never headless, never ExternalName.

    affinity_seconds: the ClientIP session affinity's timeout; None without affinity.
    keep_client_address: False when the annotation uproxy.io/keep-client-address says never.
    load_balancer_ips: those that the node is to serve (ipMode VIP). source_ranges: canonical CIDRs of the clients that may
    use them; empty: all may.
    internal_local, external_local: that traffic policy is Local. health_check_node_port: 0 where none is needed.
    """

    key: ObjectKey
    cluster_ips: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[str, ...] = ()
    affinity_seconds: int | None = None
    keep_client_address: bool = True
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    internal_local: bool = False
    external_local: bool = False
    health_check_node_port: int = 0
    options: ServiceOptions = NO_OPTIONS


class SliceEndpoint(Struct, frozen=True, gc=False):
    """One entry of an EndpointSlice's endpoints, with nil conditions already given their meaning.

    for_nodes, for_zones: the topology hints, names of the nodes and zones that should use it.
    """

    address: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node_name: str | None = None
    for_nodes: tuple[str, ...] = ()
    for_zones: tuple[str, ...] = ()


class SlicePort(Struct, frozen=True, gc=False):
    """One entry of an EndpointSlice's ports; joined to a ServicePort by name and protocol."""

    name: str
    protocol: Protocol
    port: int


class EndpointSlice(Struct, frozen=True, gc=False):
    """Some endpoints of one Service, of one family. service is the Service in the same namespace."""

    key: ObjectKey
    service: ObjectKey
    family: Family
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()


class Node(Struct, frozen=True, gc=False):
    """A node: addresses are its InternalIPs first, then its ExternalIPs; pod_cidrs are canonical CIDRs.

    eligible: False when it is about to go away, so that load balancers should send nothing more here (KEP-3836).
    """

    name: str
    addresses: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    zone: str = ""
    eligible: bool = True

    @property
    def key(self) -> ObjectKey:
        """The node's key among the other objects'."""
        return ObjectKey("", self.name)


KubernetesObject = Service | EndpointSlice | Node


class Route(Struct, frozen=True, gc=False):
    """One address and port of one ServicePort and the endpoints behind it, in no particular order.

    inside: the endpoints for pods and the node itself, where these differ: an external address under policy Local.
    silent: there are none here, but some on other nodes, where a load balancer finds them. Who would need one is
    dropped. Otherwise a route without endpoints is refused: TCP reset, UDP port-unreachable.
    admitted: lists of CIDRs; a client that is not in each of them is dropped without an answer.
    still_serving: of UDP, the endpoints that get no new clients here, but serve: flows that began there stay there.
    """

    key: RouteKey
    service_port: ServicePortName
    address_class: AddressClass
    endpoints: tuple[Endpoint, ...] = ()
    affinity_seconds: int | None = None
    keep_client_address: bool = True
    inside: tuple[Endpoint, ...] | None = None
    silent: bool = False
    admitted: tuple[tuple[str, ...], ...] = ()
    options: ServiceOptions = NO_OPTIONS
    still_serving: tuple[Endpoint, ...] = ()

    @property
    def has_listener(self) -> bool:
        """Whether somebody listens: to connect clients to endpoints, to let them wait for one, or to drop them.

        Where nobody listens the kernel refuses.
        """
        return bool(self.endpoints or self.inside or self.silent or self.options.hold)


class Refusal(Struct, frozen=True, gc=False):
    """Something that is not served, and why: an object or a part of one (field), in the operator's words.

    wrong_family: an endpoint's address is not of its slice's family.
    """

    subject: str
    field: str
    reason: str
    wrong_family: bool = False

    def __str__(self) -> str:
        return f"{self.subject}: {self.field}: {self.reason}" if self.field else f"{self.subject}: {self.reason}"
