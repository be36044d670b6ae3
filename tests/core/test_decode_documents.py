"""Objects are found in documents and lists, unknown kinds are named, and no input whatever raises."""

from __future__ import annotations

import copy
import datetime as dt
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.documents import Document, both_ways, only, service_document, skipped, slice_document
from uproxy.core.decode import Skipped, decode, decode_json
from uproxy.core.model import EndpointSlice, Kind, Node, ObjectKey, Refusal, Service

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.0.0.0/24"]}, "status": {"addresses": []}}


def kinds(document: object) -> list[str]:
    return [type(one).__name__ for one in both_ways(document)]


def listed(*items: object, kind: str = "List", version: str = "v1") -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"resourceVersion": "1"}, "items": list(items)}


def without_kind(document: Document) -> Document:
    return {name: value for name, value in document.items() if name not in {"apiVersion", "kind"}}


def test_an_empty_yaml_document_is_nothing() -> None:
    assert decode(None) == ()


def test_a_list_is_flattened_in_its_order() -> None:
    assert kinds(listed(service_document(), slice_document(), NODE)) == ["Service", "EndpointSlice", "Node"]


def test_a_list_in_a_list_is_flattened_too() -> None:
    assert kinds(listed(NODE, listed(service_document(), listed()), slice_document())) == ["Node", "Service", "EndpointSlice"]


def test_items_of_a_typed_list_need_no_kind_as_the_api_server_leaves_it_out() -> None:
    assert kinds(listed(without_kind(service_document()), kind="ServiceList")) == ["Service"]
    assert kinds(listed(without_kind(slice_document()), kind="EndpointSliceList", version="discovery.k8s.io/v1")) == ["EndpointSlice"]
    assert kinds(listed(without_kind(NODE), kind="NodeList")) == ["Node"]


@pytest.mark.parametrize("items", [None, []], ids=["null", "empty"])
def test_an_empty_list_is_nothing(items: object) -> None:
    assert both_ways({"apiVersion": "v1", "kind": "ServiceList", "items": items}) == ()


def test_a_bad_item_leaves_the_others_alone() -> None:
    bad = service_document({"clusterIP": "x"}, name="bad")
    assert kinds(listed(service_document(), bad, None, 5, NODE)) == ["Service", "Refusal", "Refusal", "Refusal", "Node"]


def test_an_unknown_kind_is_named_and_skipped() -> None:
    found = skipped({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}})
    assert (found.kind, found.key) == ("Deployment.apps", ObjectKey("shop", "web"))
    assert "Deployment (apps/v1)" in found.reason
    assert skipped({"apiVersion": "v1", "kind": "ConfigMap"}).kind == "ConfigMap"


def test_another_groups_service_is_not_taken_for_ours() -> None:
    found = skipped({**service_document(), "apiVersion": "serving.knative.dev/v1"})
    assert found.kind == "Service.serving.knative.dev"
    assert not isinstance(found.kind, Kind)


def test_another_version_of_endpoint_slices_is_named() -> None:
    found = skipped({**slice_document(), "apiVersion": "discovery.k8s.io/v1beta1"})
    assert "EndpointSlice (discovery.k8s.io/v1beta1)" in found.reason
    assert "discovery.k8s.io/v1 EndpointSlice" in found.reason
    assert not isinstance(found.kind, Kind)


NO_OBJECTS: dict[str, tuple[object, str, str]] = {
    "text": ("hello", "document", ""),
    "number": (5, "document", ""),
    "list": ([service_document()], "document", ""),
    "empty map": ({}, "document", "kind"),
    "no kind": (without_kind(service_document()), "document", "kind"),
    "no apiVersion": ({"kind": "Service", "metadata": {"name": "web"}}, "Service", "apiVersion"),
    "kind a number": ({"apiVersion": "v1", "kind": 5}, "document", "kind"),
    "items no list": ({"apiVersion": "v1", "kind": "List", "items": {}}, "document", ""),
}


@pytest.mark.parametrize(("document", "subject", "field"), NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_what_is_no_object_is_refused(document: object, subject: str, field: str) -> None:
    found = only(document)
    assert isinstance(found, Refusal)
    assert (found.subject, found.field) == (subject, field)
    assert found.reason


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"nonsense", b"{} {}", b'{"kind": "\xff"}', b'{"kind":' + b"[" * 100_000, b'{"apiVersion": NaN}'],
    ids=["empty", "truncated", "no JSON", "two", "no UTF-8", "deep", "NaN"],
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    (found,) = decode_json(raw)
    assert isinstance(found, Refusal)
    assert found.reason


def test_lists_may_be_nested_as_deeply_as_somebody_likes() -> None:
    document: object = service_document()
    for _ in range(5000):
        document = {"apiVersion": "v1", "kind": "List", "items": [document]}
    assert isinstance(decode(document)[0], Service)


MANIFEST = """
apiVersion: v1
kind: Service
metadata:
  name: web
  creationTimestamp: 2026-01-01T00:00:00Z
  annotations:
  labels: {1: one, true: two, date: 2026-01-01, version: 1.0}
spec:
  clusterIP: 10.96.0.1
  selector:
  ports:
  - {name: "80", port: 80, targetPort: 8080}
"""


def test_a_manifest_with_what_yaml_makes_of_plain_words_is_decoded() -> None:
    document = yaml.safe_load(MANIFEST)
    assert isinstance(document["metadata"]["creationTimestamp"], dt.datetime)
    (found,) = decode(document)
    assert isinstance(found, Service)
    assert found.ports[0].name == "80"


WORDS = {
    "name: 80": ("metadata.name", "must be a string, not a whole number: put it in quotes"),
    "name: 1.5": ("metadata.name", "must be a string, not a number with a fraction: put it in quotes"),
    "name: 2026-01-01": ("metadata.name", "must be a string, not a date: put it in quotes"),
    "name: yes": ("metadata.name", "must be a string, not true or false: put it in quotes"),
    "name: 1:20": ("metadata.name", "must be a string, not a whole number: put it in quotes"),
    "name: {}": ("metadata.name", "must be a string, not a map"),
    "name: !!binary aGk=": ("metadata.name", "must be a string, not a bytes"),
    'name: "\\uD800"': ("metadata.name", "is no name"),
    'name: web, "\\uD800": 1': ("", "cannot be read"),
    "1: 2": ("metadata", "must be a string"),
}


@pytest.mark.parametrize(("text", "expected"), WORDS.items(), ids=WORDS)
def test_what_yaml_makes_of_a_name_without_quotes_is_explained(text: str, expected: tuple[str, str]) -> None:
    document = yaml.safe_load(f"{{apiVersion: v1, kind: Service, metadata: {{{text}}}}}")
    (found,) = decode(document)
    assert isinstance(found, Refusal)
    assert (found.field, expected[1] in found.reason) == (expected[0], True), found


def test_a_number_beyond_all_bounds_is_refused_without_being_written_out() -> None:
    (found,) = decode(service_document({"ports": [{"port": 10**5000}]}))
    assert isinstance(found, Refusal)
    assert found.field == "spec.ports[0].port"
    assert len(found.reason) < 200


def test_long_nonsense_is_shortened_in_the_reason() -> None:
    found = only(service_document({"clusterIP": "x" * 100_000}))
    assert isinstance(found, Refusal)
    assert len(found.reason) < 200


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=5)
    | st.dates()
    | st.datetimes()
    | st.sampled_from(["v1", "never", "Service", "List", "10.0.0.1", "fd00::1", "TCP", "SCTP", "None", "ClientIP", "IPv4", "IPv6", "FQDN"])
)
_OUTER_FIELDS = ("apiVersion", "kind", "metadata", "name", "namespace", "labels", "annotations", "spec", "items", "status")
_SERVICE_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "externalIPs", "sessionAffinity", "uproxy.io/keep-client-address")
_SLICE_FIELDS = ("endpoints", "addresses", "conditions", "ports", "port", "protocol", "nodePort", "kubernetes.io/service-name")
_FIELDS = st.sampled_from(_OUTER_FIELDS + _SERVICE_FIELDS + _SLICE_FIELDS)
_ANYTHING = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_FIELDS | st.text(max_size=3) | st.integers(), inner, max_size=4)
)
_VALID = [
    service_document(
        {
            "clusterIPs": ["10.96.0.1", "fd00::1"],
            "ipFamilies": ["IPv4", "IPv6"],
            "externalIPs": ["203.0.113.7"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
            "ports": [{"name": "a", "protocol": "TCP", "port": 80, "nodePort": 30080}, {"name": "b", "protocol": "UDP", "port": 53}],
        },
        annotations={"uproxy.io/keep-client-address": "never"},
        labels={"app": "x"},
    ),
    slice_document(
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "nodeName": "n1"}, {"addresses": ["10.0.0.2"]}]}
    ),
    {**NODE, "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]}},
    listed(service_document(), slice_document()),
]


def _places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the way to everything inside a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for name, one in inner for place in [(*path, name), *_places(one, (*path, name))]]


@st.composite
def mutants(draw: st.DrawFn) -> Document:
    """Draw a valid document in which a few places hold something else, or nothing."""
    document: Document = copy.deepcopy(draw(st.sampled_from(_VALID)))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(_places(document) or [("kind",)]))
        target: Any = document
        for step in way:
            target = target[step]
        if draw(st.booleans()):
            target[last] = draw(_ANYTHING)
        elif isinstance(target, dict):
            target.pop(last)
    return document


def _cuts(raw: bytes) -> st.SearchStrategy[bytes]:
    """Draw a text with a stretch of it replaced."""
    place = st.integers(0, len(raw))
    return st.tuples(place, place, st.binary(max_size=4)).map(lambda cut: raw[: min(cut[:2])] + cut[2] + raw[max(cut[:2]) :])


def assert_sound(found: tuple[object, ...]) -> None:
    """Check what decode promises of its results, whatever the input was."""
    for one in found:
        assert isinstance(one, Service | EndpointSlice | Node | Refusal | Skipped)
        if isinstance(one, Refusal):
            assert one.subject
            assert one.reason
        if isinstance(one, Service):
            assert one.cluster_ips
            assert all(1 <= port.port <= 65535 and 0 <= port.node_port <= 65535 for port in one.ports)
        if isinstance(one, EndpointSlice):
            assert all(1 <= port.port <= 65535 for port in one.ports)


@settings(max_examples=700)
@given(_ANYTHING | mutants())
def test_decoding_never_raises(document: object) -> None:
    assert_sound(decode(document))


@settings(max_examples=500)
@given(mutants())
def test_json_and_parsed_documents_give_the_same(document: Document) -> None:
    try:
        raw = json.dumps(document, allow_nan=False).encode()
    except (TypeError, ValueError):
        return  # dates, bytes and the like, which JSON cannot say
    found = decode_json(raw)
    assert_sound(found)
    assert found == decode(json.loads(raw))


@settings(max_examples=500)
@given(st.binary(max_size=200) | st.sampled_from(_VALID).map(lambda one: json.dumps(one).encode()).flatmap(_cuts))
def test_bytes_of_any_kind_never_raise(raw: bytes) -> None:
    assert_sound(decode_json(raw))
