"""Services for uproxy to serve: their addresses, their manifests in a folder, their endpoints.

Every Service has an IPv4 and an IPv6 cluster IP, external IP and node port of its own, and serves three
ports: TCP and UDP on `port`, and on `port + 1` the TCP server that speaks first. Each Service and its
slices are one file, replaced in one step, as a deployment tool would do it.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict, Unpack

from tests.lab.endpoint import SPEAKS_FIRST
from tests.lab.servers import PORT
from tests.lab.wiring import POD_CIDRS, node_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from tests.lab.topology import Host

Document = dict[str, object]
Target = tuple[str, int]
"""An endpoint's address and port."""
IPV6: Final = 6


class Options(TypedDict, total=False):
    """What a Service may have besides addresses, ports and endpoints.

    affinity_seconds: the ClientIP affinity's timeout. node_ports: False for a Service without them.
    internal, external: the traffic policies. ingress: the entries of its load balancer's status, which make its type
    LoadBalancer. ranges: the load balancer's source ranges. health_check: its healthCheckNodePort.
    zones, nodes: the zone and the node that the endpoints of a host are hinted for, by their address. leaving: addresses of
    endpoints that terminate and still serve; gone: of those that serve no more.
    """

    affinity_seconds: int
    annotations: Mapping[str, str]
    node_ports: bool
    internal: str
    external: str
    ingress: Sequence[Mapping[str, str]]
    ranges: Sequence[str]
    health_check: int
    zones: Mapping[str, str]
    nodes: Mapping[str, str]
    leaving: Collection[str]
    gone: Collection[str]


class Served(NamedTuple):
    """A Service as its clients see it. The pairs are IPv4 and IPv6."""

    name: str
    cluster_ips: tuple[str, str]
    external_ips: tuple[str, str]
    port: int
    node_port: int
    balancer_ips: tuple[str, str] = ("", "")

    def vip(self, family: int) -> str:
        """Give the cluster IP of family 4 or 6."""
        return self.cluster_ips[family == IPV6]

    def external(self, family: int) -> str:
        """Give the external IP of family 4 or 6."""
        return self.external_ips[family == IPV6]

    def balancer(self, family: int) -> str:
        """Give the load-balancer address of family 4 or 6: served once it is among the ingress entries."""
        return self.balancer_ips[family == IPV6]

    def ingress(self, mode: str = "VIP") -> list[dict[str, str]]:
        """Make the entries of its load balancer's status, one per family."""
        return [{"ip": address, "ipMode": mode} for address in self.balancer_ips]


def targets(hosts: Iterable[Host], port: int = PORT) -> list[Target]:
    """Give the endpoints that hosts are: every address of theirs on port."""
    return [(address, port) for host in hosts for address in host.addresses]


class Services:
    """A folder of manifests, and the numbers for the next Service in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._staging = folder.parent / f"{folder.name}.staging"
        self._numbers = itertools.count(1)
        for path in (self.folder, self._staging):
            path.mkdir(parents=True, exist_ok=True)

    def plan(self, name: str, port: int = 80) -> Served:
        """Choose addresses for a Service, without writing anything."""
        number = next(self._numbers)
        cluster = (f"10.96.0.{number}", f"fd10:96::{number:x}")
        external = (f"198.51.100.{number}", f"2001:db8:51::{number:x}")
        balancer = (f"203.0.113.{number}", f"2001:db8:113::{number:x}")
        return Served(name, cluster, external, port, 30000 + 2 * number, balancer)

    def add(self, name: str, to: Iterable[Target], port: int = 80, **options: Unpack[Options]) -> Served:
        """Plan a Service and write it with its endpoints."""
        served = self.plan(name, port)
        self.put(served, to, **options)
        return served

    def put(self, served: Served, to: Iterable[Target], **options: Unpack[Options]) -> None:
        """Write a Service with its endpoints, or write it anew."""
        found = list(to)
        slices = [endpoint_slice(served.name, family, found, **options) for family in (4, IPV6)]
        self.write(served.name, service(served, **options), *slices)

    def remove(self, served: Served) -> None:
        """Remove the Service and its endpoints."""
        (self.folder / f"{served.name}.yaml").unlink()

    def write(self, name: str, *documents: Document) -> None:
        """Replace a file of the folder. JSON is YAML, so documents are written as JSON."""
        staged = self._staging / name
        staged.write_text("".join(f"---\n{json.dumps(document, indent=1)}\n" for document in documents))
        staged.replace(self.folder / f"{name}.yaml")

    def write_node(self, node: Host, *, pod_cidrs: Iterable[str] = POD_CIDRS, zone: str = "", addresses: Collection[str] = ()) -> None:
        """Write the Node object of the host that uproxy runs on; addresses: its InternalIPs, the host's own unless given."""
        labels = {"topology.kubernetes.io/zone": zone} if zone else {}
        stated = [{"type": "InternalIP", "address": address} for address in addresses or node.addresses]
        self.write(
            f"node-{node.name}",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node.name, "labels": labels},
                "spec": {"podCIDRs": list(pod_cidrs)},
                "status": {"addresses": stated},
            },
        )


def service(served: Served, **options: Unpack[Options]) -> Document:
    """Make the Service object."""
    node_ports = options.get("node_ports", True)
    names = (("tcp", "TCP", 0), ("udp", "UDP", 0), ("first", "TCP", SPEAKS_FIRST))
    ports: list[Document] = [
        {"name": name, "protocol": protocol, "port": served.port + up, "nodePort": served.node_port + up if node_ports else 0}
        for name, protocol, up in names
    ]
    without = "NodePort" if node_ports else "ClusterIP"
    ingress = options.get("ingress")
    spec: Document = {
        "type": without if ingress is None else "LoadBalancer",
        "clusterIP": served.cluster_ips[0],
        "clusterIPs": served.cluster_ips,
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack",
        "externalIPs": served.external_ips,
        "ports": ports,
        "internalTrafficPolicy": options.get("internal", "Cluster"),
        "externalTrafficPolicy": options.get("external", "Cluster"),
        "loadBalancerSourceRanges": list(options.get("ranges", ())),
        "healthCheckNodePort": options.get("health_check", 0),
    }
    if "affinity_seconds" in options:
        client_ip = {"timeoutSeconds": options["affinity_seconds"]}
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": client_ip}}
    metadata = {"name": served.name, "namespace": "default", "annotations": dict(options.get("annotations", {}))}
    status = {"loadBalancer": {"ingress": list(ingress or ())}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": status}


def endpoint_slice(name: str, family: int, found: Iterable[Target], **options: Unpack[Options]) -> Document:
    """Make the EndpointSlice of one family; all endpoints must share one port. Without endpoints it is empty."""
    mine = [target for target in found if (":" in target[0]) == (family == IPV6)]
    port = mine[0][1] if mine else PORT
    names = (("tcp", "TCP", 0), ("udp", "UDP", 0), ("first", "TCP", SPEAKS_FIRST))
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-ipv{family}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": f"IPv{family}",
        "endpoints": [_endpoint(address, **options) for address, _ in mine],
        "ports": [{"name": name_, "protocol": protocol, "port": port + up} for name_, protocol, up in names],
    }


def _endpoint(address: str, **options: Unpack[Options]) -> Document:
    gone = address in options.get("gone", ())
    leaves = gone or address in options.get("leaving", ())
    made: Document = {"addresses": [address], "conditions": {"ready": not leaves, "serving": not gone, "terminating": leaves}}
    if node := node_of(address):
        made["nodeName"] = node
    hinted = {"forZones": options.get("zones", {}).get(address), "forNodes": options.get("nodes", {}).get(address)}
    hints = {field: [{"name": name}] for field, name in hinted.items() if name}
    return made | ({"hints": hints} if hints else {})
