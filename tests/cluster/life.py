"""One Service with addresses of every class, somebody who asks at each of them from each side, and what is done to it.

Owns the Service `web` of a real API server, its two Pods, its neighbour that nothing is done to, and all their clients.
A chapter of its life is a test: it leaves the Service as it found it. Knows nothing of uproxy's inside.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from tests.cluster.asking import GONE, REFUSED, SILENT, Asker, Askers
from tests.cluster.clients import Address, Client, Clients
from tests.cluster.nodes import DUAL, PORTS, SECONDS, SERVED
from tests.lab.servers import PORT
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from tests.cluster.api_client import Document
    from tests.cluster.nodes import Cluster, Tenant
    from tests.lab.process import Uproxy

WEB: Final = "web"
NODE_PORT: Final = 30060
"""For TCP and UDP alike. Below 30086 the API server gives one to nobody of its own accord (nodes.FIXED_PORT)."""
EXTERNAL: Final = ("198.51.100.60", "2001:db8:51::60")
BALANCED: Final = ("203.0.113.60", "2001:db8:113::60")
HERE: Final = "pod2"
THERE: Final = "remote"
"""The endpoint on the node and the one on the other node."""
BOTH: Final = (HERE, THERE)
EXTERNAL_KINDS: Final = ("NodePort", "externalIP", "LoadBalancer")
KINDS: Final = ("ClusterIP", *EXTERNAL_KINDS)
INSIDE: Final = ("bridged", "node")
OUTSIDE: Final = ("outside", "far")
WHOLE_PORTS: Final = [{**port, "nodePort": NODE_PORT} for port in PORTS]
USUAL: Final = {
    "type": "LoadBalancer",
    "externalName": None,
    "externalIPs": list(EXTERNAL),
    "ports": WHOLE_PORTS,
    "loadBalancerSourceRanges": None,
    "externalTrafficPolicy": "Cluster",
    "internalTrafficPolicy": "Cluster",
    "sessionAffinity": "None",
    "sessionAffinityConfig": None,
    "trafficDistribution": None,
    **DUAL,
}
"""Its spec between two chapters, but for its cluster IPs."""


def _set(spec: Document) -> Document:
    return {name: value for name, value in spec.items() if value is not None}


class Given(NamedTuple):
    """A Service's addresses by their class: IPv4 and IPv6, and the port there."""

    cluster: Sequence[str]
    node: Sequence[str]
    node_port: int

    def entrance(self, kind: str, family: int) -> tuple[str, int]:
        """Give address and port of a class and family."""
        six = family == 6
        if kind == "NodePort":
            return self.node[six], self.node_port
        return {"ClusterIP": self.cluster, "externalIP": EXTERNAL, "LoadBalancer": BALANCED}[kind][six], SERVED


class Life:
    """The Service, from the moment when everybody is served until the with statement ends."""

    def __init__(self, cluster: Cluster, tenant: Tenant, uproxy: Uproxy) -> None:
        self.cluster: Final = cluster
        self.uproxy: Final = uproxy
        self.tenant: Final = tenant
        lab = cluster.lab
        self.vips: Final = tenant.serve(WEB, lab.pod2, **_set(USUAL)).vips
        self.set_ingress()
        beside = tenant.serve("beside", lab.pod2, type="NodePort", **DUAL)
        self._given = Given(self.vips, lab.node.addresses, NODE_PORT)
        self._beside = Given(beside.vips, lab.node.addresses, beside.node_ports[0])
        self.askers: Final = Askers(self._askers())
        self._all: Final = Askers([*self.askers, *self._neighbours(beside.node_ports)])
        self.lasting: Final = tuple(self._lasting_clients())
        self._lasting: Final = Clients(self.lasting)
        self._owned = ExitStack()

    def __enter__(self) -> Self:
        for kind, family in itertools.product(KINDS, FAMILIES):
            address, port = self._given.entrance(kind, family)
            self.cluster.until_answered_by(self.cluster.lab.outside, address, HERE, port=port)
        self._owned.enter_context(self._lasting)
        self.tenant.add_pod(WEB, self.cluster.lab.remote)
        self._owned.enter_context(self._all)
        self.is_as_usual()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owned.close()

    def _askers(self) -> Iterable[Asker]:
        lab = self.cluster.lab
        for kind, family in itertools.product(KINDS, FAMILIES):
            address, port = self._given.entrance(kind, family)
            for name in INSIDE:
                yield Asker(Address(lab[name], address, port), kind)
            if kind in EXTERNAL_KINDS:
                yield Asker(Address(lab.outside, address, port), kind)
            if kind == "LoadBalancer":
                yield Asker(Address(lab.far, address, port), kind)
            yield Asker(Address(lab.bridged if kind == "ClusterIP" else lab.outside, address, port, "UDP"), kind)

    def _neighbours(self, node_ports: Sequence[int]) -> Iterable[Asker]:
        lab, given = self.cluster.lab, self._beside
        yield Asker(Address(lab.bridged, given.cluster[0], SERVED), "neighbour's")
        yield Asker(Address(lab.outside, given.node[1], node_ports[0]), "neighbour's")
        yield Asker(Address(lab.bridged, given.cluster[1], SERVED, "UDP"), "neighbour's")
        yield Asker(Address(lab.outside, given.node[0], node_ports[1], "UDP"), "neighbour's")

    def _lasting_clients(self) -> Iterable[Client]:
        """Give connections that nothing ends: they were made while the only endpoint was one that stays in its slices."""
        lab = self.cluster.lab
        for who, kind, family in (
            (lab.bridged, "ClusterIP", 4),
            (lab.node, "ClusterIP", 6),
            (lab.outside, "NodePort", 4),
            (lab.outside, "externalIP", 6),
            (lab.outside, "LoadBalancer", 4),
            (lab.bridged, "LoadBalancer", 6),
        ):
            yield Client(Address(who, *self._given.entrance(kind, family)), lasting=True)

    # What is done to it

    def change(self, **spec: Any) -> Document:  # noqa: ANN401 - any field of a Service's spec
        """Patch its spec; None removes a field."""
        return self.cluster.admin.patch("Service", WEB, {"spec": spec}, self.tenant.namespace)

    def annotate(self, annotations: Mapping[str, str | None]) -> None:
        """Set annotations uproxy.io/...; None removes one."""
        named = {f"uproxy.io/{name}": value for name, value in annotations.items()}
        self.cluster.admin.patch("Service", WEB, {"metadata": {"annotations": named}}, self.tenant.namespace)

    def set_ingress(self, *more: tuple[str, str]) -> None:
        """Write its load balancer's status, as a cloud's controller does; more: further addresses with their ipMode."""
        modes = (*((address, "VIP") for address in BALANCED), *more)
        entries = [{"ip": address, "ipMode": mode} for address, mode in modes]
        status = {"status": {"loadBalancer": {"ingress": entries}}}
        self.cluster.admin.patch("Service", WEB, status, self.tenant.namespace, subresource="status")

    def become(self, kind: str, **spec: Any) -> None:  # noqa: ANN401 - any field of a Service's spec
        """Give it another type, with the addresses that it had under it before."""
        ports = WHOLE_PORTS if kind in {"NodePort", "LoadBalancer"} else list(PORTS)
        self.change(**{**self._addressed(), "type": kind, "externalName": None, "ports": ports, **spec})
        if kind == "LoadBalancer":
            self.set_ingress()

    def create(self) -> None:
        """Make it again, with the addresses that it had."""
        self.tenant.create(WEB, **_set({**USUAL, **self._addressed()}))
        self.set_ingress()

    def _addressed(self) -> Document:
        return {**DUAL, "clusterIP": self.vips[0], "clusterIPs": list(self.vips)}

    def set_ready(self, *names: str, ready: bool) -> None:
        """Have the readiness probes of its Pods succeed or fail."""
        for name in names:
            self.tenant.set_ready(WEB, self.cluster.lab[name], ready=ready)

    def slices_say(self, *, names: set[str] | None = None, port: int = PORT) -> None:
        """Wait until the controller has brought all slices of it to these names of ports and this number."""

        def follow() -> None:
            mine = self._slices()
            ports = [found for each in mine for found in each["ports"]]
            assert {found["port"] for found in ports} == {port}
            assert names is None or {found["name"] for found in ports} == names
            assert {each["addressType"] for each in mine} == {"IPv4", "IPv6"}

        eventually(follow, within=SECONDS)

    def slices_follow(self, zones: Mapping[str, str]) -> None:
        """Wait until they say that the nodes are in these zones. Their controller looks at the nodes only when the Service changes."""
        touches = itertools.count()

        def follow() -> None:
            labels = {"metadata": {"labels": {"touched": str(next(touches))}}}
            self.cluster.admin.patch("Service", WEB, labels, self.tenant.namespace)
            found = {(each["nodeName"], each.get("zone")) for one in self._slices() for each in one["endpoints"]}
            assert found == set(zones.items())

        eventually(follow, within=SECONDS)

    def _slices(self) -> list[Document]:
        return [each for each in self.cluster.admin.list("EndpointSlice", self.tenant.namespace)["items"] if self._is_mine(each)]

    @staticmethod
    def _is_mine(endpoint_slice: Document) -> bool:
        return bool(endpoint_slice["metadata"]["labels"]["kubernetes.io/service-name"] == WEB)

    # What is seen of it

    def external(self, *hosts: str) -> Askers:
        """Choose who asks at addresses that count as external, on these hosts."""
        return self.askers.of(*EXTERNAL_KINDS).at(*hosts)

    def refused(self, among: Askers, stack: ExitStack) -> None:
        """Announce that these are refused until the stack ends. The kernel refuses datagrams once a second, others get no answer."""
        for protocol, errors in (("TCP", REFUSED), ("UDP", REFUSED + SILENT)):
            stack.enter_context(Askers(each for each in among if each.target.protocol == protocol).excused(errors))

    def is_as_usual(self) -> None:
        """Wait until everybody reaches both endpoints; nobody met anything unannounced, and no connection has ended."""
        self.askers.are_answered_by(*BOTH)
        self._all.assert_undisturbed()
        self._lasting.are_served()

    def restore(self) -> None:
        """Forget what was met, and bring everything back to what it was, whatever a chapter that failed left behind."""
        self._forget()
        with self.askers.excused(GONE):
            self.set_ready(*BOTH, ready=True)
            self.cluster.admin.patch("Service", WEB, {"metadata": {"annotations": None}}, self.tenant.namespace)
            self.change(**{**USUAL, **self._addressed()})
            self.set_ingress()
            self.askers.are_answered_by(*BOTH)
        self._forget()

    def _forget(self) -> None:
        for each in self._all:
            each.attempts.clear()
            each.excuses.clear()
