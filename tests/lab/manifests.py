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
from tests.lab.wiring import POD_CIDRS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.lab.topology import Host

Document = dict[str, object]
Target = tuple[str, int]
"""An endpoint's address and port."""
IPV6: Final = 6


class Options(TypedDict, total=False):
    """What a Service may have besides addresses, ports and endpoints.

    affinity_seconds: the ClientIP affinity's timeout. node_ports: False for a Service of type ClusterIP.
    """

    affinity_seconds: int
    annotations: Mapping[str, str]
    node_ports: bool


class Served(NamedTuple):
    """A Service as its clients see it. The pairs are IPv4 and IPv6."""

    name: str
    cluster_ips: tuple[str, str]
    external_ips: tuple[str, str]
    port: int
    node_port: int

    def vip(self, family: int) -> str:
        """Give the cluster IP of family 4 or 6."""
        return self.cluster_ips[family == IPV6]

    def external(self, family: int) -> str:
        """Give the external IP of family 4 or 6."""
        return self.external_ips[family == IPV6]


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
        return Served(name, cluster, external, port, 30000 + 2 * number)

    def add(self, name: str, to: Iterable[Target], port: int = 80, **options: Unpack[Options]) -> Served:
        """Plan a Service and write it with its endpoints."""
        served = self.plan(name, port)
        self.put(served, to, **options)
        return served

    def put(self, served: Served, to: Iterable[Target], **options: Unpack[Options]) -> None:
        """Write a Service with its endpoints, or write it anew."""
        found = list(to)
        slices = [endpoint_slice(served.name, family, found) for family in (4, IPV6)]
        self.write(served.name, service(served, **options), *slices)

    def remove(self, served: Served) -> None:
        """Remove the Service and its endpoints."""
        (self.folder / f"{served.name}.yaml").unlink()

    def write(self, name: str, *documents: Document) -> None:
        """Replace a file of the folder. JSON is YAML, so documents are written as JSON."""
        staged = self._staging / name
        staged.write_text("".join(f"---\n{json.dumps(document, indent=1)}\n" for document in documents))
        staged.replace(self.folder / f"{name}.yaml")

    def write_node(self, node: Host, *, pod_cidrs: Iterable[str] = POD_CIDRS) -> None:
        """Write the Node object of the host that uproxy runs on."""
        addresses = [{"type": "InternalIP", "address": address} for address in node.addresses]
        self.write(
            f"node-{node.name}",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node.name},
                "spec": {"podCIDRs": list(pod_cidrs)},
                "status": {"addresses": addresses},
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
    spec: Document = {
        "type": "NodePort" if node_ports else "ClusterIP",
        "clusterIP": served.cluster_ips[0],
        "clusterIPs": served.cluster_ips,
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack",
        "externalIPs": served.external_ips,
        "ports": ports,
    }
    if "affinity_seconds" in options:
        client_ip = {"timeoutSeconds": options["affinity_seconds"]}
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": client_ip}}
    metadata = {"name": served.name, "namespace": "default", "annotations": dict(options.get("annotations", {}))}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def endpoint_slice(name: str, family: int, found: Iterable[Target]) -> Document:
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
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address, _ in mine],
        "ports": [{"name": name_, "protocol": protocol, "port": port + up} for name_, protocol, up in names],
    }
