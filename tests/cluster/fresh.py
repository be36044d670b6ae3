"""What a list of the API server says should be served now, and what is: listeners, answers and numbers.

Worked out from the listed documents alone, without a line of uproxy's. Invariant: whatever is listened on is wanted,
once, and whatever is wanted is listened on.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.lab import client
from tests.lab.process import HEALTH_PORT, METRICS_PORT
from tests.lab.servers import PORT
from tests.lab.wiring import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cluster.api_client import ApiClient, Document
    from tests.lab.process import Uproxy
    from tests.lab.topology import Host, Lab

Listener = tuple[str, str]
"""Protocol and address."""
PROXY_NAME_LABEL: Final = "service.kubernetes.io/service-proxy-name"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
QUESTIONS: Final = 12
"""Asked of each address: in turn, so that four endpoints have each been met three times."""
SETTLED: Final = {
    "kubeproxy_sync_proxy_rules_service_changes_pending": 0,
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending": 0,
    "uproxy_sync_failures_total": 0,
    "uproxy_redirect_repairs_total": 0,
    "uproxy_refused": 0,
    "uproxy_failed_listeners": 0,
    "uproxy_state_age_seconds": 0,
    "uproxy_state_failures_total": 0,
    "uproxy_connections_active": 0,
    "uproxy_flows_active": 0,
    "uproxy_connections_failed_total": 0,
    "uproxy_connections_reset_total": 0,
    "uproxy_source_refusals_total": 0,
}
"""Numbers of an uproxy that serves all that there is, to nobody at the moment, and never did anybody harm."""


class Wanted(NamedTuple):
    """What should be served. listeners: how many ports of each address; answers: which endpoints answer where."""

    listeners: Counter[Listener]
    answers: Mapping[tuple[client.Protocol, str, int], frozenset[str]]
    services: int


def wanted(admin: ApiClient, lab: Lab) -> Wanted:
    """List Services and EndpointSlices and say what should be served to the lab's node."""
    names = {address: name for name, pair in ADDRESSES.items() for address in pair}
    slices = admin.list("EndpointSlice")["items"]
    services = [each for each in admin.list("Service")["items"] if _is_ours(each)]
    listeners: Counter[Listener] = Counter()
    answers: dict[tuple[client.Protocol, str, int], frozenset[str]] = {}
    for service in services:
        for family, port, found in _ports(service, slices):
            addresses = _addresses(service, family, port, lab.node)
            listeners.update((port["protocol"], address) for address in addresses)
            if all(number == PORT for _, number in found):
                answers[port["protocol"], addresses[0], port["port"]] = frozenset(names[each] for each, _ in found)
    return Wanted(listeners, answers, len(services))


def _is_ours(service: Document) -> bool:
    labels = service["metadata"].get("labels", {})
    return service["spec"].get("clusterIP", "None") != "None" and PROXY_NAME_LABEL not in labels


def _ports(service: Document, slices: list[Document]) -> Iterator[tuple[str, Document, set[tuple[str, int]]]]:
    """Give each family and port of a Service that has endpoints, with their addresses and ports."""
    for family in service["spec"]["ipFamilies"]:
        mine = [each for each in slices if _belongs(each, service) and each["addressType"] == family]
        for port in service["spec"]["ports"]:
            found = {endpoint for each in mine for endpoint in _endpoints(each, port.get("name", ""))}
            if found:
                yield family, port, found


def _belongs(endpoint_slice: Document, service: Document) -> bool:
    meta, other = endpoint_slice["metadata"], service["metadata"]
    return (meta["namespace"], meta.get("labels", {}).get(SERVICE_LABEL)) == (other["namespace"], other["name"])


def _endpoints(endpoint_slice: Document, port_name: str) -> Iterator[tuple[str, int]]:
    for port in endpoint_slice.get("ports") or []:
        if port.get("name", "") == port_name:
            for endpoint in endpoint_slice["endpoints"] or []:
                if endpoint["conditions"].get("ready", True):
                    yield endpoint["addresses"][0], port["port"]


def _addresses(service: Document, family: str, port: Document, node: Host) -> list[str]:
    """Give the addresses at which a port is served, the cluster IP first."""
    spec = service["spec"]
    six = family == "IPv6"
    others = [each for each in spec.get("externalIPs", []) if (":" in each) == six]
    node_address = [node.address(6 if six else 4)] if port.get("nodePort") else []
    return [spec["clusterIPs"][spec["ipFamilies"].index(family)], *others, *node_address]


def listening(node: Host) -> Counter[tuple[str, str, str]]:
    """Ask the kernel what is listened on: protocol, address and port, but for health and metrics."""
    rows = [line.split() for line in node.namespace.run("ss", "-lntuH").splitlines()]
    places = ((row[0].upper(), *row[4].rsplit(":", 1)) for row in rows)
    own = {str(HEALTH_PORT), str(METRICS_PORT)}
    return Counter((protocol, address.strip("[]"), port) for protocol, address, port in places if port not in own)


def assert_listeners(admin: ApiClient, lab: Lab) -> None:
    """Compare what is listened on with what should be."""
    found = listening(lab.node)
    assert [place for place, times in found.items() if times > 1] == [], "a listener twice"
    had, listed = Counter((protocol, address) for protocol, address, _ in found), wanted(admin, lab).listeners
    assert had == listed, f"too many: {had - listed}, missing: {listed - had}"


def assert_answers(admin: ApiClient, lab: Lab) -> None:
    """Compare who answers at each address with who should."""
    for (protocol, address, port), names in wanted(admin, lab).answers.items():
        met = {client.ask(lab.outside, address, port, protocol).name for _ in range(QUESTIONS)}
        assert met == names, f"{protocol} {address} port {port}"


def assert_numbers(admin: ApiClient, lab: Lab, uproxy: Uproxy) -> None:
    """Compare what uproxy says of itself."""
    metrics = uproxy.metrics()
    assert {name: metrics.get(name, 0) for name in SETTLED} == SETTLED
    assert metrics["uproxy_services"] == wanted(admin, lab).services
