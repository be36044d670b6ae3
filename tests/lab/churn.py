"""A thousand Services in a folder of manifests, and random changes of nine hundred of them.

Owns what each Service is like now and its file; the first hundred are left as they are. Knows nothing of uproxy.
Invariant: whatever was changed, restore() brings the folder back to what it was at first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from tests.lab.servers import PORT
from tests.lab.wiring import ADDRESSES, POD_CIDRS, node_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from tests.lab.client import Protocol
    from tests.lab.manifests import Document, Services

NUMBER: Final = 1000
UNTOUCHED: Final = 100
RESTLESS: Final = 60
"""So many of the others take half of all changes: each is another one every seven seconds, while connections to it are open."""
TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer")
ENDPOINTS: Final = (("pod2",), ("remote",), ("pod2", "remote"), ("pod2", "bridged2", "remote"), ())
ANNOTATIONS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"uproxy.io/balance": "least-connections"},
    {"uproxy.io/drain": "1s"},
    {"uproxy.io/hold": "1s"},
    {"uproxy.io/max-connections": "3"},
    {"uproxy.io/idle-timeout": "1s"},
    {"uproxy.io/proxy-protocol": "v1"},
    {"uproxy.io/keep-client-address": "never"},
    {"uproxy.io/drain": "0.5s", "uproxy.io/hold": "2s", "uproxy.io/balance": "nonsense"},
)
POLICIES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"externalTrafficPolicy": "Local"},
    {"internalTrafficPolicy": "Local"},
    {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"},
    {"sessionAffinity": "ClientIP"},
    {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 2}}},
    {"loadBalancerSourceRanges": list(POD_CIDRS)},
)


@dataclass(frozen=True)
class Shape:
    """What a Service is like. families: 4, or 4 and 6. protocols: of its ports, which all have the same number."""

    type: str
    families: tuple[int, ...] = (4,)
    protocols: tuple[Protocol, ...] = ("TCP",)
    endpoints: tuple[str, ...] = ("pod2",)
    annotations: Mapping[str, str] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    external: bool = False
    there: bool = True


def first_shape(number: int) -> Shape:
    """Give what a Service is like at first: a quarter of them of each sort, with endpoints on one or on both nodes."""
    endpoints = ENDPOINTS[number % 3]
    return (
        Shape("ClusterIP", endpoints=endpoints),
        Shape("ClusterIP", (4, 6), ("TCP", "UDP"), endpoints),
        Shape("NodePort", (4, 6), endpoints=endpoints),
        Shape("LoadBalancer", (4, 6), ("TCP", "UDP"), endpoints, external=number % 8 == 3),
    )[number % 4]


def changed(shape: Shape, dice: random.Random) -> Shape:
    """Change one thing of a Service: most often its endpoints, as in clusters; what is not there comes back as it was."""
    if not shape.there:
        return replace(shape, there=True)
    what = dice.choices(("endpoints", "there", "type", "annotations", "policy", "external"), (8, 3, 3, 3, 3, 1))[0]
    if what in {"there", "external"}:
        values: tuple[object, ...] = (False, True)
    else:
        values = {"endpoints": ENDPOINTS, "type": TYPES, "annotations": ANNOTATIONS, "policy": POLICIES}[what]
    other: Any = dice.choice([each for each in values if each != getattr(shape, what)])
    return replace(shape, **{what: other})


def port_of(number: int) -> int:
    """Give the port of a Service: its own, so that Services can share load-balancer addresses."""
    return 1000 + number


def vip_of(number: int, family: int) -> str:
    """Give its cluster IP."""
    return f"fd10:96::{0x2000 + number:x}" if family == 6 else f"10.96.{number // 200 + 2}.{number % 200 + 1}"


def balancer_of(number: int, family: int) -> str:
    """Give its load-balancer address, one of a hundred of each family."""
    return f"2001:db8:113::{number % 100 + 1:x}" if family == 6 else f"203.0.113.{number % 100 + 1}"


def node_port_of(number: int) -> int:
    """Give its node port, of all its protocols."""
    return 30000 + number


def entrances(number: int, node: tuple[str, str]) -> Iterator[tuple[str, str, int]]:
    """Give class, address and port of everything at which a Service of this number is reached at first."""
    shape = first_shape(number)
    for family in shape.families:
        yield "ClusterIP", vip_of(number, family), port_of(number)
        if shape.type != "ClusterIP":
            yield "NodePort", node[family == 6], node_port_of(number)
        if shape.type == "LoadBalancer":
            yield "LoadBalancer", balancer_of(number, family), port_of(number)


def documents(number: int, shape: Shape) -> list[Document]:
    """Make the Service and its slices."""
    return [_service(number, shape), *(_slice(number, family, shape) for family in shape.families)]


def _service(number: int, shape: Shape) -> Document:
    vips = [vip_of(number, family) for family in shape.families]
    node_port = {} if shape.type == "ClusterIP" else {"nodePort": node_port_of(number)}
    ports = [{"name": each.lower(), "protocol": each, "port": port_of(number), **node_port} for each in shape.protocols]
    spec = {"type": shape.type, "clusterIP": vips[0], "clusterIPs": vips, "ipFamilies": [f"IPv{f}" for f in shape.families], "ports": ports}
    if shape.external:
        spec["externalIPs"] = [f"198.51.100.{number % 200 + 1}"]
    ingress = [{"ip": balancer_of(number, family)} for family in shape.families] if shape.type == "LoadBalancer" else []
    metadata = {"name": _name(number), "namespace": "default", "annotations": dict(shape.annotations)}
    status = {"loadBalancer": {"ingress": ingress}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {**spec, **shape.policy}, "status": status}


def _slice(number: int, family: int, shape: Shape) -> Document:
    name = _name(number)
    addresses = [ADDRESSES[each][family == 6] for each in shape.endpoints]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{family}", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": f"IPv{family}",
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}, "nodeName": node_of(each)} for each in addresses],
        "ports": [{"name": each.lower(), "protocol": each, "port": PORT} for each in shape.protocols],
    }


def _name(number: int) -> str:
    return f"service-{number}"


class Population:
    """All of them. shapes: what each is like now, by its number."""

    def __init__(self, services: Services, dice: random.Random) -> None:
        self._services = services
        self._dice = dice
        self.shapes: Final = [first_shape(number) for number in range(NUMBER)]
        self.changes = 0
        for number in range(NUMBER):
            self._write(number)

    def change_one(self) -> None:
        """Change something of one Service that may be changed."""
        number = self._dice.randrange(UNTOUCHED, self._dice.choice((UNTOUCHED + RESTLESS, NUMBER)))
        self._put(number, changed(self.shapes[number], self._dice))
        self.changes += 1

    def restore(self) -> None:
        """Bring every Service back to what it was at first."""
        for number, shape in enumerate(self.shapes):
            if shape != first_shape(number):
                self._put(number, first_shape(number))

    def _put(self, number: int, shape: Shape) -> None:
        self.shapes[number] = shape
        self._write(number)

    def _write(self, number: int) -> None:
        shape = self.shapes[number]
        if shape.there:
            self._services.write(_name(number), *documents(number, shape))
        else:
            (self._services.folder / f"{_name(number)}.yaml").unlink()
