"""Services are decoded by Kubernetes' rules; what is bad is refused with its field and what would be right."""

from __future__ import annotations

import msgspec
import pytest

from tests.core.documents import Document, both_ways, only, refused, service_document, skipped
from uproxy.core.decode import Skipped, decode, decode_item, decode_json
from uproxy.core.model import Kind, ObjectKey, Protocol, Refusal, Service, ServicePort

TCP, UDP = Protocol.TCP, Protocol.UDP
WEB = ObjectKey("shop", "web")


def decoded(spec: Document | None = None, **meta: object) -> Service:
    """Decode a Service of which nothing is refused."""
    found = only(service_document(spec, **meta))
    assert isinstance(found, Service)
    return found


def test_a_service_as_the_api_server_gives_it_is_decoded() -> None:
    spec = {
        "type": "NodePort",
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1", "fd00::1"],
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "PreferDualStack",
        "externalIPs": ["203.0.113.7"],
        "externalTrafficPolicy": "Cluster",
        "internalTrafficPolicy": "Cluster",
        "selector": {"app": "web"},
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
        "ports": [
            {"name": "http", "protocol": "TCP", "appProtocol": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
            {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353},
        ],
    }
    assert decoded(
        spec, uid="1", creationTimestamp="2026-01-01T00:00:00Z", annotations={"uproxy.io/keep-client-address": "never"}
    ) == Service(
        WEB,
        ("10.96.0.1", "fd00::1"),
        (ServicePort("http", TCP, 80, 30080), ServicePort("dns", UDP, 53)),
        ("203.0.113.7",),
        600,
        keep_client_address=False,
    )


def test_what_is_not_written_has_kubernetes_defaults() -> None:
    assert decoded({"ports": [{"port": 80}]}) == Service(WEB, ("10.96.0.1",), (ServicePort("", TCP, 80),))


def test_null_is_the_same_as_not_written() -> None:
    everything = (
        "type",
        "clusterIPs",
        "ipFamilies",
        "externalIPs",
        "sessionAffinity",
        "sessionAffinityConfig",
    )
    port = {"port": 80, "name": None, "protocol": None, "nodePort": None}
    assert decoded(dict.fromkeys(everything) | {"ports": [port]}, labels=None, annotations=None) == decoded({"ports": [{"port": 80}]})


def test_without_a_namespace_it_is_in_default() -> None:
    assert decoded(namespace=None).key == ObjectKey("default", "web")


def test_a_name_may_begin_with_a_digit() -> None:
    assert decoded(name="7-eleven").key.name == "7-eleven"


def test_a_service_that_is_being_deleted_is_served() -> None:
    assert decoded(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["x"]).key == WEB


CLUSTER_IPS: dict[str, tuple[Document, tuple[str, ...]]] = {
    "clusterIP alone": ({"clusterIP": "10.96.0.1"}, ("10.96.0.1",)),
    "clusterIPs alone": ({"clusterIP": ..., "clusterIPs": ["10.96.0.1"]}, ("10.96.0.1",)),
    "both families without ipFamilies": ({"clusterIPs": ["10.96.0.1", "fd00::1"]}, ("10.96.0.1", "fd00::1")),
    "ipv6 first": (
        {"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.96.0.1"], "ipFamilies": ["IPv6", "IPv4"]},
        ("fd00::1", "10.96.0.1"),
    ),
    "only the families of ipFamilies": ({"clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4"]}, ("10.96.0.1",)),
    "a second family without an address yet": ({"clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4", "IPv6"]}, ("10.96.0.1",)),
    "empty clusterIPs": ({"clusterIPs": []}, ("10.96.0.1",)),
    "leading zeros": ({"clusterIP": "010.096.0.001"}, ("10.96.0.1",)),
    "two spellings of one address": ({"clusterIP": "10.96.0.1", "clusterIPs": ["010.96.0.1"]}, ("10.96.0.1",)),
    "capitals": ({"clusterIP": "FD00:0::1"}, ("fd00::1",)),
    "loopback, which policy decides about": ({"clusterIP": "127.0.0.10"}, ("127.0.0.10",)),
    "link-local, as node-local DNS uses it": ({"clusterIP": "169.254.20.10"}, ("169.254.20.10",)),
}


@pytest.mark.parametrize(("spec", "expected"), CLUSTER_IPS.values(), ids=CLUSTER_IPS)
def test_cluster_ips_are_found_by_family(spec: Document, expected: tuple[str, ...]) -> None:
    assert expected == decoded(spec).cluster_ips


NOT_SERVED: dict[str, tuple[Document, str]] = {
    "headless": (service_document({"clusterIP": "None"}), "headless"),
    "headless by clusterIPs": (service_document({"clusterIP": ..., "clusterIPs": ["None"]}), "headless"),
    "headless without ports": (service_document({"clusterIP": "None", "ports": ...}), "headless"),
    "ExternalName": (service_document({"type": "ExternalName", "externalName": "example.org"}), "ExternalName"),
    "another service proxy's": (service_document(labels={"service.kubernetes.io/service-proxy-name": "x"}), "service-proxy-name"),
    "an exclusion label without a value": (service_document(labels={"service.kubernetes.io/headless": None}), "kubernetes.io/headless"),
    "no cluster IP": (service_document({"clusterIP": ...}), "allocates none"),
    "an empty cluster IP": (service_document({"clusterIP": "", "clusterIPs": []}), "allocates none"),
    "no spec": ({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}}, "allocates none"),
}


@pytest.mark.parametrize(("document", "reason"), NOT_SERVED.values(), ids=NOT_SERVED)
def test_a_service_that_is_not_for_us_is_skipped_with_the_reason(document: Document, reason: str) -> None:
    found = skipped(document)
    assert (found.kind, found.key) == (Kind.SERVICE, WEB)
    assert reason in found.reason


NAMED = "service.kubernetes.io/service-proxy-name"
PROXY_NAMES: dict[str, tuple[dict[str, object], str, bool]] = {
    "no label, no name": ({}, "", True),
    "a label, no name": ({NAMED: "edge"}, "", False),
    "an empty label, no name": ({NAMED: ""}, "", False),
    "the label has the name": ({NAMED: "edge"}, "edge", True),
    "the label has another name": ({NAMED: "other"}, "edge", False),
    "no label, a name": ({}, "edge", False),
    "the name, but headless": ({NAMED: "edge", "service.kubernetes.io/headless": ""}, "edge", False),
}


@pytest.mark.parametrize(("labels", "proxy_name", "served"), PROXY_NAMES.values(), ids=PROXY_NAMES)
def test_a_proxy_serves_the_services_that_carry_its_name_and_no_others(labels: Document, proxy_name: str, served: bool) -> None:  # noqa: FBT001 - a table's column
    document = service_document(labels=labels)
    found = {decode(document, proxy_name), decode_json(msgspec.json.encode(document), proxy_name)}
    ((one,),) = found
    assert isinstance(one, Service) == served
    assert isinstance(one, Skipped) != served


def test_an_item_of_a_list_is_decoded_without_saying_its_kind() -> None:
    document = service_document()
    item = msgspec.json.encode({name: document[name] for name in ("metadata", "spec")})
    assert decode_item(item, Kind.SERVICE) == decode(document)
    assert [type(one) for one in decode_item(b'{"metadata": {}}', Kind.SERVICE)] == [Refusal]


REFUSED: dict[str, tuple[Document, str, str]] = {
    "cluster IP is no address": (service_document({"clusterIP": "10.96.0"}), "spec.clusterIP", "'10.96.0' is no IP address"),
    "cluster IP unspecified": (service_document({"clusterIP": "0.0.0.0"}), "spec.clusterIP", "unspecified"),
    "cluster IP multicast": (service_document({"clusterIP": "224.0.0.1"}), "spec.clusterIP", "multicast"),
    "cluster IP broadcast": (service_document({"clusterIP": "255.255.255.255"}), "spec.clusterIP", "broadcast"),
    "cluster IP needs an interface": (service_document({"clusterIP": "fe80::1"}), "spec.clusterIP", "link-local"),
    "cluster IP a number": (
        service_document({"clusterIP": 10.96}),
        "spec.clusterIP",
        "must be a string, not a number with a fraction: put it in quotes",
    ),
    "second cluster IP bad": (service_document({"clusterIPs": ["10.96.0.1", "x"]}), "spec.clusterIPs[1]", "'x' is no IP address"),
    "second cluster IP null": (service_document({"clusterIPs": ["10.96.0.1", None]}), "spec.clusterIPs[1]", "null is no IP address"),
    "two of one family": (service_document({"clusterIPs": ["10.96.0.1", "10.96.0.2"]}), "spec.clusterIPs[1]", "at most one"),
    "twice the same": (service_document({"clusterIPs": ["10.96.0.1", "10.96.0.1"]}), "spec.clusterIPs[1]", "at most one"),
    "clusterIP and clusterIPs differ": (service_document({"clusterIPs": ["10.96.0.2"]}), "spec.clusterIP", "same as spec.clusterIPs[0]"),
    "wrong family": (
        service_document({"clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv6"]}),
        "spec.clusterIPs[0]",
        "10.96.0.1 is no IPv6 address",
    ),
    "unknown family": (service_document({"ipFamilies": ["ipv4"]}), "spec.ipFamilies[0]", "must be IPv4 or IPv6, not 'ipv4'"),
    "unknown type": (service_document({"type": "Nodeport"}), "spec.type", "NodePort, LoadBalancer or ExternalName, not 'Nodeport'"),
    "no ports": (service_document({"ports": []}), "spec.ports", "at least one"),
    "ports null": (service_document({"ports": None}), "spec.ports", "at least one"),
    "ports no list": (service_document({"ports": {"port": 80}}), "spec.ports", "must be a list, not a map"),
    "port null": (service_document({"ports": [None]}), "spec.ports[0]", "null"),
    "port missing": (service_document({"ports": [{"name": "http"}]}), "spec.ports[0].port", "missing"),
    "port zero": (service_document({"ports": [{"port": 0}]}), "spec.ports[0].port", "must be 1 to 65535, not 0"),
    "port too large": (service_document({"ports": [{"port": 65536}]}), "spec.ports[0].port", "must be 1 to 65535, not 65536"),
    "port in quotes": (
        service_document({"ports": [{"port": "80"}]}),
        "spec.ports[0].port",
        "must be a whole number, not a string: leave the quotes away",
    ),
    "port true": (service_document({"ports": [{"port": True}]}), "spec.ports[0].port", "must be a whole number"),
    "port with a fraction": (service_document({"ports": [{"port": 80.5}]}), "spec.ports[0].port", "must be a whole number"),
    "node port too large": (service_document({"ports": [{"port": 80, "nodePort": 70000}]}), "spec.ports[0].nodePort", "65535"),
    "node port negative": (service_document({"ports": [{"port": 80, "nodePort": -1}]}), "spec.ports[0].nodePort", "65535"),
    "port name": (service_document({"ports": [{"port": 80, "name": "HTTP"}]}), "spec.ports[0].name", "'HTTP' is no port name"),
    "port name a number": (service_document({"ports": [{"port": 80, "name": 80}]}), "spec.ports[0].name", "put it in quotes"),
    "protocol": (service_document({"ports": [{"port": 80, "protocol": "tcp"}]}), "spec.ports[0].protocol", "TCP or UDP, not 'tcp'"),
    "two ports of one name": (
        service_document({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}),
        "spec.ports",
        "two TCP ports have the name 'a'",
    ),
    "two unnamed ports": (service_document({"ports": [{"port": 80}, {"port": 81}]}), "spec.ports", "the name ''"),
    "two ports of one number": (
        service_document({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}),
        "spec.ports",
        "two TCP ports have the port 80",
    ),
    "two ports of one node port": (
        service_document({"ports": [{"port": 80, "name": "a", "nodePort": 30080}, {"port": 81, "name": "b", "nodePort": 30080}]}),
        "spec.ports",
        "the nodePort 30080",
    ),
    "affinity": (service_document({"sessionAffinity": "clientIP"}), "spec.sessionAffinity", "None or ClientIP, not 'clientIP'"),
    "spec no map": ({**service_document(), "spec": []}, "spec", "must be a map, not a list"),
    "labels no map": (service_document(labels=["a"]), "metadata.labels", "must be a map, not a list"),
}


@pytest.mark.parametrize(("document", "field", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_service_with_a_bad_core_is_refused_whole(document: Document, field: str, reason: str) -> None:
    found = only(document)
    assert isinstance(found, Refusal)
    assert (found.subject, found.field) == ("Service shop/web", field)
    assert reason in found.reason


@pytest.mark.parametrize("seconds", [0, -1, 86401])
def test_an_affinity_timeout_out_of_range_is_refused(seconds: int) -> None:
    config = {"clientIP": {"timeoutSeconds": seconds}}
    found = both_ways(service_document({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}))
    assert refused(found) == [("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "must be 1 to 86400 seconds")]
    assert len(found) == 1


AFFINITIES: dict[str, tuple[Document, int | None]] = {
    "none written": ({}, None),
    "None": ({"sessionAffinity": "None"}, None),
    "empty": ({"sessionAffinity": ""}, None),
    "the default time": ({"sessionAffinity": "ClientIP"}, 10800),
    "an empty configuration": ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {}}, 10800),
    "an empty clientIP": ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, 10800),
    "shortest": ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}, 1),
    "longest": ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86400}}}, 86400),
    "a time without affinity": ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, None),
}


@pytest.mark.parametrize(("spec", "expected"), AFFINITIES.values(), ids=AFFINITIES)
def test_affinity_is_decoded_with_its_default(spec: Document, expected: int | None) -> None:
    assert expected == decoded(spec).affinity_seconds


def test_bad_external_addresses_are_left_out_alone() -> None:
    written = ["203.0.113.7", "nonsense", 5, "0.0.0.0", "ff02::1", "203.0.113.007", None, "FD00::2"]
    service, *_ = found = both_ways(service_document({"externalIPs": written}))
    assert isinstance(service, Service)
    assert service.external_ips == ("203.0.113.7", "fd00::2")
    assert refused(found) == [
        ("spec.externalIPs[1]", "'nonsense' is no IP address"),
        ("spec.externalIPs[2]", "a value of type int is no IP address"),
        ("spec.externalIPs[3]", "0.0.0.0 is the unspecified address, which cannot be used here"),
        ("spec.externalIPs[4]", "ff02::1 is a multicast address, which cannot be used here"),
        ("spec.externalIPs[6]", "null is no IP address"),
    ]


def test_an_sctp_port_is_left_out_and_the_others_are_served() -> None:
    ports = [{"name": "sig", "protocol": "SCTP", "port": 80}, {"name": "http", "port": 80}]
    service, refusal = both_ways(service_document({"ports": ports}))
    assert isinstance(service, Service)
    assert service.ports == (ServicePort("http", TCP, 80),)
    assert isinstance(refusal, Refusal)
    assert (refusal.subject, refusal.field) == ("Service shop/web", "spec.ports[0].protocol")
    assert "SCTP" in refusal.reason


def test_a_service_of_sctp_alone_has_no_ports() -> None:
    service, refusal = both_ways(service_document({"ports": [{"protocol": "SCTP", "port": 80}]}))
    assert isinstance(service, Service)
    assert service.ports == ()
    assert isinstance(refusal, Refusal)


def test_one_number_with_two_protocols_is_allowed_and_so_is_one_name() -> None:
    ports = [{"name": "dns", "protocol": "UDP", "port": 53, "nodePort": 30053}, {"name": "dns", "port": 53, "nodePort": 30053}]
    assert decoded({"ports": ports}).ports == (ServicePort("dns", UDP, 53, 30053), ServicePort("dns", TCP, 53, 30053))


def test_several_ports_may_have_no_node_port() -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 0}, {"name": "c", "port": 82, "nodePort": None}]
    assert [port.node_port for port in decoded({"ports": ports}).ports] == [0, 0, 0]


@pytest.mark.parametrize(("value", "kept"), [("auto", True), ("never", False)])
def test_the_annotation_about_client_addresses_is_read(value: str, *, kept: bool) -> None:
    assert decoded(annotations={"uproxy.io/keep-client-address": value}).keep_client_address is kept


@pytest.mark.parametrize("value", ["always", "Never", "", None, False, ["never"]], ids=repr)
def test_another_value_of_the_annotation_is_refused_and_the_service_served(value: object) -> None:
    service, refusal = both_ways(service_document(annotations={"uproxy.io/keep-client-address": value}))
    assert isinstance(service, Service)
    assert service.keep_client_address
    assert isinstance(refusal, Refusal)
    assert refusal.field == "metadata.annotations[uproxy.io/keep-client-address]"
    assert refusal.reason.startswith("must be auto or never")


NAMES: dict[str, tuple[Document, str, str]] = {
    "missing": ({"namespace": "shop"}, "metadata.name", "missing"),
    "empty": ({"name": ""}, "metadata.name", "missing"),
    "a number": ({"name": 5}, "metadata.name", "put it in quotes"),
    "capitals": ({"name": "Web"}, "metadata.name", "'Web' is no name"),
    "a slash": ({"name": "a/b"}, "metadata.name", "no name"),
    "a line feed": ({"name": "a\n"}, "metadata.name", "no name"),
    "too long": ({"name": "a" * 254}, "metadata.name", "no name"),
    "a bad namespace": ({"name": "web", "namespace": "Shop"}, "metadata.namespace", "'Shop' is no name"),
}


@pytest.mark.parametrize(("meta", "field", "reason"), NAMES.values(), ids=NAMES)
def test_an_object_without_a_proper_name_is_refused(meta: Document, field: str, reason: str) -> None:
    found = only({**service_document(), "metadata": meta})
    assert isinstance(found, Refusal)
    assert found.field == field
    assert reason in found.reason


@pytest.mark.parametrize("metadata", [None, {}], ids=["null", "empty"])
def test_an_object_without_metadata_is_refused_by_its_kind(metadata: Document | None) -> None:
    assert only({**service_document(), "metadata": metadata}) == Refusal("Service without a name", "metadata.name", "is missing")
