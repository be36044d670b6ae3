"""The fields of a Service as kube-proxy reads them, row by row: which routes a Service has as it is written.

What a bad value does, cluster IPs, affinity and excluded Services are in test_decode_service.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.documents import Document, both_ways, only, refused, service_document
from tests.core.objects import service
from uproxy.core.model import AddressClass, Kind, ObjectKey, Protocol, Refusal, Service, ServicePort, ServicePortName
from uproxy.core.policy import NodeView, routes_of
from uproxy.sources.kubernetes.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

WEB = ObjectKey("shop", "web")
NODE = NodeView("here", ("192.168.0.1", "fd99::1"), frozenset({"192.168.0.1", "fd99::1"}))
BALANCED: Document = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}


def balanced(spec: Document | None = None, ingress: object = ({"ip": "198.51.100.1"},), **meta: object) -> Document:
    """Give a Service of type LoadBalancer whose balancer has these addresses."""
    return {**service_document({**BALANCED, **(spec or {})}, **meta), "status": {"loadBalancer": {"ingress": ingress}}}


def decoded(document: Document) -> Service:
    """Decode a Service of which nothing is refused."""
    found = only(document)
    assert isinstance(found, Service)
    return found


def served(document: Document) -> list[str]:
    """Give the keys of the routes that a Service has on the node."""
    return [str(one.key) for one in routes_of(decoded(document), [], NODE).routes]


def with_port(**fields: object) -> Document:
    return balanced({"ports": [{"name": "http", "port": 80, **fields}]})


NOT_READ: dict[str, Document] = {
    "targetPort a number": with_port(targetPort=8080),
    "targetPort a name": with_port(targetPort="web"),
    "appProtocol kubernetes.io/h2c": with_port(appProtocol="kubernetes.io/h2c"),
    "appProtocol kubernetes.io/ws": with_port(appProtocol="kubernetes.io/ws"),
    "loadBalancerIP": balanced({"loadBalancerIP": "198.51.100.9"}),
    "loadBalancerClass": balanced({"loadBalancerClass": "example.org/edge"}),
    "allocateLoadBalancerNodePorts": balanced({"allocateLoadBalancerNodePorts": False}),
    "publishNotReadyAddresses": balanced({"publishNotReadyAddresses": True}),
    "selector": balanced({"selector": {"app": "web"}}),
    "selector empty": balanced({"selector": {}}),
    "ipFamilyPolicy": balanced({"ipFamilyPolicy": "RequireDualStack"}),
    "trafficDistribution PreferClose": balanced({"trafficDistribution": "PreferClose"}),
    "trafficDistribution PreferSameZone": balanced({"trafficDistribution": "PreferSameZone"}),
    "trafficDistribution PreferSameNode": balanced({"trafficDistribution": "PreferSameNode"}),
    "trafficDistribution unknown": balanced({"trafficDistribution": "example.org/far-away"}),
    "annotation topology-mode": balanced(annotations={"service.kubernetes.io/topology-mode": "Auto"}),
    "annotation topology-aware-hints": balanced(annotations={"service.kubernetes.io/topology-aware-hints": "auto"}),
    "annotation load-balancer-source-ranges": balanced(
        annotations={"service.beta.kubernetes.io/load-balancer-source-ranges": "192.0.2.0/24"}
    ),
    "ingress[].ports": balanced(ingress=[{"ip": "198.51.100.1", "ports": [{"port": 80, "protocol": "TCP", "error": "no"}]}]),
    "ingress[].hostname": balanced(ingress=[{"hostname": "web.example.org", "ip": "198.51.100.1"}]),
    "resourceVersion and generation": balanced(resourceVersion="7", generation=3, managedFields=[{"manager": "x"}]),
    "deletionTimestamp": balanced(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["service.kubernetes.io/load-balancer-cleanup"]),
    "another label": balanced(labels={"service.kubernetes.io/whatever": "true"}),
}


@pytest.mark.parametrize("document", NOT_READ.values(), ids=NOT_READ)
def test_a_field_that_is_not_for_service_proxies_changes_nothing(document: Document) -> None:
    assert decoded(document) == decoded(balanced())


INGRESS: dict[str, tuple[object, tuple[str, ...]]] = {
    "no status yet": (None, ()),
    "an address": ([{"ip": "198.51.100.1"}], ("198.51.100.1",)),
    "ipMode null": ([{"ip": "198.51.100.1", "ipMode": None}], ("198.51.100.1",)),
    "ipMode VIP": ([{"ip": "198.51.100.1", "ipMode": "VIP"}], ("198.51.100.1",)),
    "ipMode Proxy": ([{"ip": "198.51.100.1", "ipMode": "Proxy"}], ()),
    "ipMode unknown": ([{"ip": "198.51.100.1", "ipMode": "Anycast"}], ()),
    "VIP and Proxy side by side": ([{"ip": "198.51.100.1", "ipMode": "Proxy"}, {"ip": "198.51.100.2"}], ("198.51.100.2",)),
    "several": ([{"ip": "198.51.100.2"}, {"ip": "198.51.100.1"}], ("198.51.100.2", "198.51.100.1")),
    "both families": ([{"ip": "198.51.100.1"}, {"ip": "2001:DB8::1"}], ("198.51.100.1", "2001:db8::1")),
    "a host name alone": ([{"hostname": "web.example.org"}], ()),
    "an empty address": ([{"ip": "", "hostname": "web.example.org"}], ()),
    "null": ([None, {"ip": "198.51.100.1"}], ("198.51.100.1",)),
    "twice, in two spellings": ([{"ip": "198.51.100.1"}, {"ip": "198.051.100.001"}], ("198.51.100.1",)),
}


@pytest.mark.parametrize(("ingress", "expected"), INGRESS.values(), ids=INGRESS)
def test_load_balancer_addresses_are_served_unless_the_balancer_wants_the_traffic(ingress: object, expected: tuple[str, ...]) -> None:
    assert expected == decoded(balanced(ingress=ingress)).load_balancer_ips


@pytest.mark.parametrize("other", ["ClusterIP", "NodePort", None], ids=repr)
def test_addresses_left_in_the_status_of_another_type_are_not_served(other: str | None) -> None:
    found = decoded(balanced({"type": other}))
    assert (found.load_balancer_ips, found.health_check_node_port) == ((), 0)


def test_a_bad_load_balancer_address_is_left_out_alone() -> None:
    found = both_ways(balanced(ingress=[{"ip": "nonsense"}, {"ip": 7}, {"ip": "198.51.100.1"}, {"ip": "0.0.0.0"}]))
    assert isinstance(found[0], Service)
    assert found[0].load_balancer_ips == ("198.51.100.1",)
    assert [field for field, _ in refused(found)] == [f"status.loadBalancer.ingress[{index}].ip" for index in (0, 1, 3)]


RANGES: dict[str, tuple[object, tuple[str, ...]]] = {
    "none": ([], ()),
    "null": (None, ()),
    "trimmed": ([" 192.0.2.0/24\t"], ("192.0.2.0/24",)),
    "host bits": (["192.0.2.7/24"], ("192.0.2.0/24",)),
    "leading zeros": (["010.0.0.0/8"], ("10.0.0.0/8",)),
    "both families": (["192.0.2.0/24", "2001:DB8::/64"], ("192.0.2.0/24", "2001:db8::/64")),
    "twice": (["192.0.2.0/24", "192.0.2.1/24"], ("192.0.2.0/24",)),
    "everybody": (["0.0.0.0/0"], ("0.0.0.0/0",)),
}


@pytest.mark.parametrize(("ranges", "expected"), RANGES.values(), ids=RANGES)
def test_source_ranges_are_read_as_kube_proxy_reads_them(ranges: object, expected: tuple[str, ...]) -> None:
    assert decoded(balanced({"loadBalancerSourceRanges": ranges})).source_ranges == expected


@pytest.mark.parametrize("bad", ["192.0.2.1", "", "192.0.2.0/33", 7, None], ids=repr)
def test_a_source_range_that_is_none_refuses_the_service_and_lets_nobody_in(bad: object) -> None:
    found = only(balanced({"loadBalancerSourceRanges": ["192.0.2.0/24", bad]}))
    assert isinstance(found, Refusal)
    assert found.field == "spec.loadBalancerSourceRanges[1]"


POLICIES: dict[str, tuple[Document, tuple[bool, bool]]] = {
    "none written": ({}, (False, False)),
    "null": ({"internalTrafficPolicy": None, "externalTrafficPolicy": None}, (False, False)),
    "empty": ({"internalTrafficPolicy": "", "externalTrafficPolicy": ""}, (False, False)),
    "Cluster": ({"internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster"}, (False, False)),
    "internalTrafficPolicy Local": ({"internalTrafficPolicy": "Local"}, (True, False)),
    "externalTrafficPolicy Local": ({"externalTrafficPolicy": "Local"}, (False, True)),
}


@pytest.mark.parametrize(("spec", "expected"), POLICIES.values(), ids=POLICIES)
def test_traffic_policies_are_cluster_unless_they_say_local(spec: Document, expected: tuple[bool, bool]) -> None:
    found = decoded(service_document({"type": "NodePort", **spec}))
    assert (found.internal_local, found.external_local) == expected


@pytest.mark.parametrize("field", ["internalTrafficPolicy", "externalTrafficPolicy"])
@pytest.mark.parametrize("value", ["local", "PreferLocal"])
def test_a_traffic_policy_that_is_none_refuses_the_service(field: str, value: str) -> None:
    found = only(service_document({field: value}))
    assert found == Refusal("Service shop/web", f"spec.{field}", f"must be Cluster or Local, not {value!r}")


HEALTH_CHECKS: dict[str, tuple[Document, int]] = {
    "LoadBalancer with policy Local": ({}, 32000),
    "policy Cluster": ({"externalTrafficPolicy": "Cluster"}, 0),
    "no policy": ({"externalTrafficPolicy": None}, 0),
    "NodePort": ({"type": "NodePort"}, 0),
    "none allocated": ({"healthCheckNodePort": 0}, 0),
    "null": ({"healthCheckNodePort": None}, 0),
}


@pytest.mark.parametrize(("spec", "expected"), HEALTH_CHECKS.values(), ids=HEALTH_CHECKS)
def test_the_health_check_node_port_is_of_load_balancers_with_policy_local(spec: Document, expected: int) -> None:
    assert decoded(balanced(spec)).health_check_node_port == expected


def test_a_health_check_node_port_that_is_no_port_refuses_the_service() -> None:
    found = only(balanced({"healthCheckNodePort": 70000}))
    assert isinstance(found, Refusal)
    assert found.field == "spec.healthCheckNodePort"


@pytest.mark.parametrize("number", [1, 53, 1023, 1024, 10249, 10256, 30080, 65535])
def test_every_number_may_be_the_port_of_a_service(number: int) -> None:
    assert served(service_document({"ports": [{"name": "http", "port": number}]})) == [f"10.96.0.1:{number}/TCP"]


@pytest.mark.parametrize("address", ["10.96.0.1", "172.30.255.254", "100.64.0.1", "192.0.2.1", "fd00::1", "2001:db8::1"])
def test_a_cluster_ip_may_be_of_any_range(address: str) -> None:
    assert decoded(service_document({"clusterIP": address})).cluster_ips == (address,)


def test_there_are_no_more_than_two_families() -> None:
    found = only(service_document({"clusterIPs": ["10.96.0.1", "fd00::1", "10.96.0.2"], "ipFamilies": ["IPv4", "IPv6", "IPv4"]}))
    assert isinstance(found, Refusal)
    assert found.field == "spec.clusterIPs[2]"


def test_a_load_balancer_without_node_ports_has_none() -> None:
    assert served(balanced({"allocateLoadBalancerNodePorts": False})) == ["10.96.0.1:80/TCP", "198.51.100.1:80/TCP"]


def test_the_external_addresses_of_a_family_that_the_service_has_not_are_left_alone() -> None:
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    document = balanced({"externalIPs": ["203.0.113.7", "2001:db8::7"], "ports": ports}, ingress=[{"ip": "2001:db8::1"}])
    found = routes_of(decoded(document), [], NODE)
    assert [str(one.key) for one in found.routes] == ["10.96.0.1:80/TCP", "203.0.113.7:80/TCP", "192.168.0.1:30080/TCP"]
    assert [(one.field, one.reason.split()[0]) for one in found.refusals] == [("spec.externalIPs", "2001:db8::7")]


def test_a_load_balancers_address_stays_restricted_though_it_is_an_external_ip_too() -> None:
    document = balanced({"externalIPs": ["198.51.100.1"], "loadBalancerSourceRanges": ["192.0.2.0/24"]})
    (route,) = (one for one in routes_of(decoded(document), [], NODE).routes if one.key.vip == "198.51.100.1")
    assert route.address_class is AddressClass.LOAD_BALANCER
    assert route.admitted == (("192.0.2.0/24",),)


def names(*ports: ServicePort) -> list[ServicePortName]:
    return [one.service_port for one in routes_of(service(ports=ports), [], NODE).routes]


def test_a_service_port_is_known_by_name_and_protocol_whatever_its_number() -> None:
    tcp, udp = Protocol.TCP, Protocol.UDP
    assert names(ServicePort("http", tcp, 80)) == names(ServicePort("http", tcp, 8080))
    assert names(ServicePort("http", tcp, 80)) != names(ServicePort("web", tcp, 80))
    assert names(ServicePort("dns", tcp, 53)) != names(ServicePort("dns", udp, 53))


NODE_PORT: Document = {"ports": [{"name": "http", "port": 80, "nodePort": 30080}]}
CLUSTER, NODES, BALANCER = AddressClass.CLUSTER_IP, AddressClass.NODE_PORT, AddressClass.LOAD_BALANCER
LIFE: tuple[tuple[str, Document, list[AddressClass]], ...] = (
    ("ExternalName", service_document({"type": "ExternalName", "externalName": "example.org", "clusterIP": ..., "ports": ...}), []),
    ("ClusterIP", service_document({"type": "ClusterIP"}), [CLUSTER]),
    ("headless", service_document({"clusterIP": "None"}), []),
    ("NodePort", service_document({"type": "NodePort", **NODE_PORT}), [CLUSTER, NODES]),
    ("LoadBalancer", balanced(NODE_PORT), [CLUSTER, BALANCER, NODES]),
    ("LoadBalancer of mode Proxy", balanced(NODE_PORT, [{"ip": "198.51.100.1", "ipMode": "Proxy"}]), [CLUSTER, NODES]),
    ("LoadBalancer without node ports", balanced(), [CLUSTER, BALANCER]),
    ("no clusterIP yet", service_document({"clusterIP": ""}), []),
    ("another service proxy's", service_document(labels={"service.kubernetes.io/service-proxy-name": "x"}), []),
    ("ClusterIP again", service_document(), [CLUSTER]),
)


@pytest.mark.parametrize("order", [LIFE, LIFE[::-1]], ids=["there", "and back"])
def test_a_service_that_changes_its_type_has_the_addresses_of_its_type_and_no_others(order: Sequence[tuple[str, Document, object]]) -> None:
    store = Store(Kind.SERVICE)
    for step, document, expected in order:
        (found,) = both_ways(document)
        assert not isinstance(found, Refusal)
        store.put(WEB, found)
        classes = [
            route.address_class for one in store.objects.values() if isinstance(one, Service) for route in routes_of(one, [], NODE).routes
        ]
        assert classes == expected, step
