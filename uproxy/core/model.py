"""The facts uproxy works with: Services, EndpointSlices, Nodes, and the routes derived from them.

Owns the names and shapes only; knows nothing of where objects come from (decode) or what follows from
them (policy). Every value is immutable, compares by content, and holds only the fields that matter here.
Addresses are canonical text ("10.96.0.1", "fd00::1"), ports are 1 to 65535, durations are seconds.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

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


class Service(Struct, frozen=True, gc=False):
    """A Service that has addresses to serve: never headless, never ExternalName.

    affinity_seconds: the ClientIP session affinity's timeout; None without affinity.
    keep_client_address: False when the annotation uproxy.io/keep-client-address says never.
    """

    key: ObjectKey
    cluster_ips: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[str, ...] = ()
    affinity_seconds: int | None = None
    keep_client_address: bool = True


class SliceEndpoint(Struct, frozen=True, gc=False):
    """One entry of an EndpointSlice's endpoints, with nil conditions already given their meaning."""

    address: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node_name: str | None = None


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

    A route without endpoints is refused: TCP reset, UDP port-unreachable.
    """

    key: RouteKey
    service_port: ServicePortName
    address_class: AddressClass
    endpoints: tuple[Endpoint, ...] = ()
    affinity_seconds: int | None = None
    keep_client_address: bool = True


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
