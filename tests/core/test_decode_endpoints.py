"""EndpointSlices and Nodes are decoded by Kubernetes' rules; what is bad is refused with its field."""

from __future__ import annotations

import pytest

from tests.core.documents import Document, both_ways, only, refused, skipped, slice_document
from uproxy.core.decode import decode
from uproxy.core.model import EndpointSlice, Family, Kind, Node, ObjectKey, Protocol, Refusal, SliceEndpoint, SlicePort

TCP, UDP = Protocol.TCP, Protocol.UDP
SLICE = ObjectKey("shop", "web-1")


def decoded(fields: Document | None = None) -> EndpointSlice:
    """Decode a slice of which nothing is refused."""
    found = only(slice_document(fields))
    assert isinstance(found, EndpointSlice)
    return found


def test_a_slice_as_the_api_server_gives_it_is_decoded() -> None:
    fields = {
        "endpoints": [
            {
                "addresses": ["10.0.0.1", "10.0.0.99"],
                "conditions": {"ready": False, "serving": True, "terminating": True},
                "nodeName": "n1",
                "zone": "a",
                "targetRef": {"kind": "Pod", "name": "web-x", "namespace": "shop", "uid": "1"},
                "hints": {"forNodes": [{"name": "n1"}], "forZones": [{"name": "a"}, None, {"name": "b"}]},
            }
        ],
        "ports": [
            {"name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "http"},
            {"name": "dns", "protocol": "UDP", "port": 5353},
        ],
    }
    assert decoded(fields) == EndpointSlice(
        SLICE,
        ObjectKey("shop", "web"),
        Family.IPV4,
        (SliceEndpoint("10.0.0.1", ready=False, serving=True, terminating=True, node_name="n1", for_nodes=("n1",), for_zones=("a", "b")),),
        (SlicePort("http", TCP, 8080), SlicePort("dns", UDP, 5353)),
    )


@pytest.mark.parametrize("nothing", [None, [], ...], ids=["null", "empty", "missing"])
def test_a_slice_without_endpoints_and_ports_is_empty(nothing: object) -> None:
    found = decoded({"endpoints": nothing, "ports": nothing})
    assert (found.endpoints, found.ports) == ((), ())


CONDITIONS: dict[str, tuple[object, SliceEndpoint]] = {
    "missing": (..., SliceEndpoint("10.0.0.1")),
    "null": (None, SliceEndpoint("10.0.0.1")),
    "empty": ({}, SliceEndpoint("10.0.0.1")),
    "all null": ({"ready": None, "serving": None, "terminating": None}, SliceEndpoint("10.0.0.1")),
    "not ready": ({"ready": False}, SliceEndpoint("10.0.0.1", ready=False)),
    "not serving": ({"serving": False}, SliceEndpoint("10.0.0.1", serving=False)),
    "terminating": ({"terminating": True}, SliceEndpoint("10.0.0.1", terminating=True)),
}


@pytest.mark.parametrize(("conditions", "expected"), CONDITIONS.values(), ids=CONDITIONS)
def test_conditions_that_are_not_known_mean_a_usable_endpoint(conditions: object, expected: SliceEndpoint) -> None:
    endpoint = {"addresses": ["10.0.0.1"]} | ({} if conditions is ... else {"conditions": conditions})
    assert decoded({"endpoints": [endpoint]}).endpoints == (expected,)


def test_only_the_first_address_of_an_endpoint_counts() -> None:
    assert decoded({"endpoints": [{"addresses": ["010.0.0.1", "nonsense", 5]}]}).endpoints == (SliceEndpoint("10.0.0.1"),)


@pytest.mark.parametrize("empty", [None, {}, {"addresses": None}, {"addresses": []}], ids=repr)
def test_an_endpoint_without_addresses_is_passed_over(empty: object) -> None:
    assert decoded({"endpoints": [empty, {"addresses": ["10.0.0.1"]}]}).endpoints == (SliceEndpoint("10.0.0.1"),)


@pytest.mark.parametrize("node_name", [None, ""], ids=repr)
def test_an_endpoint_without_a_node_is_on_none(node_name: str | None) -> None:
    assert decoded({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": node_name}]}).endpoints[0].node_name is None


def test_an_endpoint_may_be_a_process_of_this_machine() -> None:
    assert decoded({"endpoints": [{"addresses": ["127.0.0.1"]}]}).endpoints == (SliceEndpoint("127.0.0.1"),)


BAD_ENDPOINTS: dict[str, tuple[Document, str, str]] = {
    "no address": ({"addresses": ["web.example.org"]}, ".addresses[0]", "'web.example.org' is no IP address"),
    "wrong family": ({"addresses": ["fd00::1"]}, ".addresses[0]", "fd00::1 is no IPv4 address"),
    "address a number": ({"addresses": [10.5]}, ".addresses[0]", "a value of type float is no IP address"),
    "unspecified": ({"addresses": ["0.0.0.0"]}, ".addresses[0]", "unspecified"),
    "multicast": ({"addresses": ["224.0.0.1"]}, ".addresses[0]", "multicast"),
    "broadcast": ({"addresses": ["255.255.255.255"]}, ".addresses[0]", "broadcast"),
    "link-local": ({"addresses": ["169.254.169.254"]}, ".addresses[0]", "link-local"),
    "addresses no list": ({"addresses": "10.0.0.1"}, ".addresses", "must be a list, not a string"),
    "conditions no map": ({"addresses": ["10.0.0.1"], "conditions": []}, ".conditions", "must be a map, not a list"),
    "ready no boolean": (
        {"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}},
        ".conditions.ready",
        "must be true or false, not a string",
    ),
    "node name a number": ({"addresses": ["10.0.0.1"], "nodeName": 7}, ".nodeName", "put it in quotes"),
}


@pytest.mark.parametrize(("endpoint", "field", "reason"), BAD_ENDPOINTS.values(), ids=BAD_ENDPOINTS)
def test_a_bad_endpoint_is_left_out_alone(endpoint: Document, field: str, reason: str) -> None:
    found = both_ways(slice_document({"endpoints": [{"addresses": ["10.0.0.1"]}, endpoint, {"addresses": ["10.0.0.3"]}]}))
    kept, refusal = found
    assert isinstance(kept, EndpointSlice)
    assert [one.address for one in kept.endpoints] == ["10.0.0.1", "10.0.0.3"]
    assert isinstance(refusal, Refusal)
    assert (refusal.subject, refusal.field) == ("EndpointSlice shop/web-1", f"endpoints[1]{field}")
    assert reason in refusal.reason


def test_an_endpoint_that_is_no_map_is_left_out_alone() -> None:
    found = both_ways(slice_document({"endpoints": ["10.0.0.1", {"addresses": ["10.0.0.2"]}]}))
    assert refused(found) == [("endpoints[0]", "must be a map, not a string")]
    assert isinstance(found[0], EndpointSlice)


NOT_SERVED: dict[str, tuple[Document, str]] = {
    "FQDN": (slice_document({"addressType": "FQDN", "endpoints": [{"addresses": ["example.org"]}]}), "FQDN"),
    "without a service": (slice_document(labels={}), "kubernetes.io/service-name"),
    "with an empty service": (slice_document(labels={"kubernetes.io/service-name": ""}), "kubernetes.io/service-name"),
    "another service proxy's": (
        slice_document(labels={"kubernetes.io/service-name": "web", "service.kubernetes.io/service-proxy-name": ""}),
        "service-proxy-name",
    ),
    "headless": (slice_document(labels={"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": ""}), "headless"),
}


@pytest.mark.parametrize(("document", "reason"), NOT_SERVED.values(), ids=NOT_SERVED)
def test_a_slice_that_is_not_for_us_is_skipped_with_the_reason(document: Document, reason: str) -> None:
    found = skipped(document)
    assert (found.kind, found.key) == (Kind.ENDPOINT_SLICE, SLICE)
    assert reason in found.reason


SLICES_OF_A_NAMED_PROXY: dict[str, tuple[Document, bool]] = {
    "made by a controller, with the Service's labels": ({"service.kubernetes.io/service-proxy-name": "edge"}, True),
    "made by somebody, without": ({}, True),
    "another proxy's": ({"service.kubernetes.io/service-proxy-name": "other"}, False),
    "headless": ({"service.kubernetes.io/headless": ""}, False),
}


@pytest.mark.parametrize(("labels", "served"), SLICES_OF_A_NAMED_PROXY.values(), ids=SLICES_OF_A_NAMED_PROXY)
def test_a_named_proxy_reads_the_slices_that_carry_its_name_or_none(labels: Document, served: bool) -> None:  # noqa: FBT001 - a table's column
    (found,) = decode(slice_document(labels={"kubernetes.io/service-name": "web", **labels}), "edge")
    assert isinstance(found, EndpointSlice) == served


def test_an_address_of_the_other_family_is_told_from_one_that_is_none() -> None:
    found = both_ways(slice_document({"endpoints": [{"addresses": ["fd00::1"]}, {"addresses": ["fd00:::1"]}, {"addresses": ["fe80::1"]}]}))
    assert [one.wrong_family for one in found if isinstance(one, Refusal)] == [True, False, False]


PORTS: dict[str, tuple[Document, list[SlicePort], list[str]]] = {
    "empty name": ({"name": "", "port": 80}, [SlicePort("", TCP, 80)], []),
    "null name": ({"name": None, "port": 80}, [], ["ports[0].name"]),
    "no name": ({"port": 80}, [], ["ports[0].name"]),
    "null port": ({"name": "http", "port": None}, [], ["ports[0].port"]),
    "no port": ({"name": "http"}, [], ["ports[0].port"]),
    "port zero": ({"name": "http", "port": 0}, [], ["ports[0].port"]),
    "null protocol": ({"name": "http", "port": 80, "protocol": None}, [SlicePort("http", TCP, 80)], []),
    "SCTP, of which the Service tells": ({"name": "http", "port": 80, "protocol": "SCTP"}, [], []),
}


@pytest.mark.parametrize(("port", "expected", "fields"), PORTS.values(), ids=PORTS)
def test_ports_of_a_slice_are_kept_or_passed_over(port: Document, expected: list[SlicePort], fields: list[str]) -> None:
    found = both_ways(slice_document({"ports": [port]}))
    assert isinstance(found[0], EndpointSlice)
    assert list(found[0].ports) == expected
    assert [field for field, _ in refused(found)] == fields


REFUSED: dict[str, tuple[Document, str, str]] = {
    "no address type": ({"addressType": ...}, "addressType", "missing"),
    "unknown address type": ({"addressType": "ipv4"}, "addressType", "IPv4 or IPv6, not 'ipv4'"),
    "address type a number": ({"addressType": 4}, "addressType", "put it in quotes"),
    "port too large": ({"ports": [{"name": "http", "port": 70000}]}, "ports[0].port", "must be 1 to 65535"),
    "port in quotes": ({"ports": [{"name": "http", "port": "80"}]}, "ports[0].port", "leave the quotes away"),
    "port name": ({"ports": [{"name": "a b", "port": 80}]}, "ports[0].name", "'a b' is no port name"),
    "protocol": ({"ports": [{"name": "http", "port": 80, "protocol": "HTTP"}]}, "ports[0].protocol", "TCP or UDP, not 'HTTP'"),
    "ports no list": ({"ports": 80}, "ports", "must be a list, not a whole number"),
    "endpoints no list": ({"endpoints": {}}, "endpoints", "must be a list, not a map"),
}


@pytest.mark.parametrize(("fields", "field", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_slice_with_a_bad_core_is_refused_whole(fields: Document, field: str, reason: str) -> None:
    found = only(slice_document(fields))
    assert isinstance(found, Refusal)
    assert (found.subject, found.field) == ("EndpointSlice shop/web-1", field)
    assert reason in found.reason


def node_document(**parts: object) -> Document:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}}, **parts}


def test_a_node_has_its_internal_addresses_before_its_external_ones() -> None:
    written = [
        {"type": "Hostname", "address": "n1"},
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "InternalIP", "address": "192.168.0.1"},
        {"type": "InternalIP", "address": "FD99::1"},
        {"type": "InternalDNS", "address": "n1.local"},
        {"type": "ExternalIP", "address": "192.168.0.1"},
    ]
    spec = {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"], "taints": []}
    assert only(node_document(spec=spec, status={"addresses": written})) == Node(
        "n1", ("192.168.0.1", "fd99::1", "203.0.113.1"), ("10.244.1.0/24", "fd00:1::/64"), "a"
    )


LEAVING: dict[str, tuple[Document, bool]] = {
    "no taints": ({"spec": {"taints": None}}, True),
    "another taint": ({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, None]}}, True),
    "the autoscaler's taint": ({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}}, False),
    "being deleted": ({"metadata": {"name": "n1", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, False),
    "not being deleted": ({"metadata": {"name": "n1", "deletionTimestamp": None}}, True),
}


@pytest.mark.parametrize(("parts", "eligible"), LEAVING.values(), ids=LEAVING)
def test_a_node_that_is_about_to_go_is_not_eligible(parts: Document, eligible: bool) -> None:  # noqa: FBT001 - a table's column
    found = only(node_document(**parts))
    assert isinstance(found, Node)
    assert found.eligible == eligible


def test_a_node_may_have_nothing_but_a_name() -> None:
    assert only({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}) == Node("n1")
    assert only(node_document(spec={"podCIDRs": None}, status={"addresses": None})) == Node("n1", zone="a")


def test_a_single_pod_cidr_is_read_too() -> None:
    assert only(node_document(spec={"podCIDR": "10.244.1.7/24"})) == Node("n1", (), ("10.244.1.0/24",), "a")


def test_bad_addresses_and_cidrs_of_a_node_are_left_out_alone() -> None:
    written = [{"type": "InternalIP", "address": "x"}, None, {"type": "InternalIP", "address": "192.168.0.1"}, {"type": "InternalIP"}]
    found = both_ways(node_document(spec={"podCIDRs": ["10.244.1.0", "10.244.2.0/24", 5]}, status={"addresses": written}))
    assert found[0] == Node("n1", ("192.168.0.1",), ("10.244.2.0/24",), "a")
    assert {(one.subject, one.field) for one in found[1:] if isinstance(one, Refusal)} == {
        ("Node n1", "status.addresses[0].address"),
        ("Node n1", "status.addresses[3].address"),
        ("Node n1", "spec.podCIDRs[0]"),
        ("Node n1", "spec.podCIDRs[2]"),
    }


def test_a_bad_single_pod_cidr_is_named_as_it_is_written() -> None:
    assert refused(both_ways(node_document(spec={"podCIDR": "x"})))[0][0] == "spec.podCIDR"


def test_a_bad_node_is_refused_by_its_name_alone() -> None:
    found = only({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": 5}})
    assert isinstance(found, Refusal)
    assert found.subject == "Node n1"
