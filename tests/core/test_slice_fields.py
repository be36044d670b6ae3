"""The fields of an EndpointSlice as kube-proxy reads them, row by row, and what becomes of endpoints in several slices.

What a bad value does, conditions and ports are in test_decode_endpoints.py.
"""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from tests.core.documents import Document, only, slice_document
from tests.core.objects import key, service, slice_of
from uproxy.core.model import EndpointSlice, Kind, Protocol, ServicePort, SliceEndpoint
from uproxy.core.policy import NodeView, routes_of
from uproxy.core.state import Delete, Event, Put, State, fold

NODE = NodeView("here")


def decoded(document: Document) -> EndpointSlice:
    """Decode a slice of which nothing is refused."""
    found = only(document)
    assert isinstance(found, EndpointSlice)
    return found


def with_endpoint(**fields: object) -> Document:
    return slice_document({"endpoints": [{"addresses": ["10.0.0.1"], **fields}]})


NOT_READ: dict[str, Document] = {
    "zone": with_endpoint(zone="a"),
    "hostname": with_endpoint(hostname="here"),
    "targetRef": with_endpoint(targetRef={"kind": "Pod", "name": "web-1", "namespace": "other"}),
    "deprecatedTopology": with_endpoint(deprecatedTopology={"kubernetes.io/hostname": "here", "topology.kubernetes.io/zone": "a"}),
    "a second address": with_endpoint(addresses=["10.0.0.1", "10.0.0.2"]),
    "ports[].appProtocol": slice_document({"ports": [{"name": "http", "port": 8080, "appProtocol": "kubernetes.io/h2c"}]}),
    "label managed-by": slice_document(
        labels={"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "somebody.example.org"}
    ),
    "resourceVersion and generation": slice_document(resourceVersion="7", generation=3, managedFields=[{"manager": "x"}]),
    "annotation last-change-trigger-time": slice_document(
        annotations={"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00.123456789Z"}
    ),
    "a trigger time that is none": slice_document(annotations={"endpoints.kubernetes.io/last-change-trigger-time": "yesterday"}),
    "ownerReferences": slice_document(ownerReferences=[{"kind": "Service", "name": "other"}], generateName="web-"),
}


@pytest.mark.parametrize("document", NOT_READ.values(), ids=NOT_READ)
def test_a_field_that_does_not_decide_about_routes_changes_nothing(document: Document) -> None:
    assert decoded(document) == decoded(slice_document())


NAMES = tuple(f"zone-{number}" for number in range(9))
HINTS: dict[str, tuple[object, tuple[str, ...], tuple[str, ...]]] = {
    "null": (None, (), ()),
    "empty": ({}, (), ()),
    "both null": ({"forNodes": None, "forZones": None}, (), ()),
    "both empty": ({"forNodes": [], "forZones": []}, (), ()),
    "a zone": ({"forZones": [{"name": "a"}]}, (), ("a",)),
    "a node": ({"forNodes": [{"name": "here"}]}, ("here",), ()),
    "a node and zones": ({"forNodes": [{"name": "here"}], "forZones": [{"name": "a"}, {"name": "b"}]}, ("here",), ("a", "b")),
    "names that are none": ({"forZones": [{"name": None}, {"name": ""}, None, {}]}, (), ()),
    "more than eight": ({"forZones": [{"name": name} for name in NAMES]}, (), NAMES),
}


@pytest.mark.parametrize(("hints", "nodes", "zones"), HINTS.values(), ids=HINTS)
def test_hints_are_read(hints: object, nodes: tuple[str, ...], zones: tuple[str, ...]) -> None:
    (found,) = decoded(with_endpoint(hints=hints)).endpoints
    assert (found.for_nodes, found.for_zones) == (nodes, zones)


PLACES: dict[str, tuple[Document, bool]] = {
    "nodeName is this node's": ({"nodeName": "here"}, True),
    "nodeName is another's": ({"nodeName": "there"}, False),
    "nodeName missing": ({}, False),
    "nodeName null": ({"nodeName": None}, False),
    "nodeName empty": ({"nodeName": ""}, False),
    "nodeName in capitals": ({"nodeName": "HERE"}, False),
    "nodeName with a domain": ({"nodeName": "here.example.org"}, False),
    "hostname is this node's name": ({"nodeName": "there", "hostname": "here"}, False),
    "deprecatedTopology says here": ({"deprecatedTopology": {"kubernetes.io/hostname": "here"}}, False),
}


@pytest.mark.parametrize(("fields", "is_here"), PLACES.values(), ids=PLACES)
def test_an_endpoint_is_here_if_its_node_name_is_this_nodes(fields: Document, is_here: bool) -> None:  # noqa: FBT001 - a table's column
    found = replace(decoded(with_endpoint(**fields)), service=key("web"))
    (route,) = routes_of(replace(service(), internal_local=True), [found], NODE).routes
    assert bool(route.endpoints) == is_here
    assert route.silent != is_here


def test_slices_of_whoever_keeps_them_are_one_service() -> None:
    """By hand and by a controller: each of them keeps slices of its own."""
    documents = [
        slice_document(
            {"endpoints": [{"addresses": [f"10.0.0.{number}"]}]},
            labels={"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": manager},
            name=f"web-{number}",
        )
        for number, manager in enumerate(("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io", "me"), start=1)
    ]
    (route,) = routes_of(service(), [decoded(document) for document in documents], NODE).routes
    assert [endpoint.address for endpoint in route.endpoints] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_a_slice_of_the_largest_size_is_served_whole() -> None:
    """A thousand endpoints and a hundred ports are what the API server lets a slice have."""
    endpoints = [{"addresses": [f"10.0.{number >> 8}.{number & 255}"]} for number in range(1000)]
    ports = [{"name": f"p{number}", "port": 8000 + number} for number in range(100)]
    found = decoded(slice_document({"endpoints": endpoints, "ports": ports}))
    of = service(ports=[ServicePort(f"p{number}", Protocol.TCP, 80 + number) for number in range(100)])
    routes = routes_of(of, [found], NODE).routes
    assert [len(route.endpoints) for route in routes] == [1000] * 100
    assert [route.endpoints[0].port for route in routes] == list(range(8000, 8100))


HERE = SliceEndpoint("10.0.0.1", node_name="here")
BOTH = slice_of("old", HERE, "10.0.0.2")
LEFT, MOVED = slice_of("old", "10.0.0.2"), slice_of("new", HERE)
MOVES: dict[str, tuple[list[Event], list[set[str]]]] = {
    "first into the new slice, then out of the old one": ([Put(MOVED), Put(LEFT)], [{"1", "2"}, {"1", "2"}]),
    "first out of the old slice, then into the new one": ([Put(LEFT), Put(MOVED)], [{"2"}, {"1", "2"}]),
    "the new slice comes, the old one goes": (
        [Put(slice_of("new", HERE, "10.0.0.2")), Delete(Kind.ENDPOINT_SLICE, key("old"))],
        [{"1", "2"}] * 2,
    ),
    "a slice in between is deleted": ([Put(MOVED), Delete(Kind.ENDPOINT_SLICE, key("new"))], [{"1", "2"}] * 2),
}


def served(state: State) -> set[str]:
    """Give the last numbers of the endpoints' addresses."""
    (route,) = routes_of(service(), state.slices[key("web")].values(), NODE).routes
    return {endpoint.address.rpartition(".")[2] for endpoint in route.endpoints}


@pytest.mark.parametrize(("events", "expected"), MOVES.values(), ids=MOVES)
def test_an_endpoint_that_moves_between_slices_is_served_as_long_as_one_has_it(events: list[Event], expected: list[set[str]]) -> None:
    state, _ = fold(State(), [Put(service()), Put(BOTH)])
    found = []
    for event in events:
        state, _ = fold(state, [event])
        found.append(served(state))
    assert found == expected


COPIES: dict[str, SliceEndpoint] = {
    "ready here": HERE,
    "terminating here": replace(HERE, ready=False, terminating=True),
    "unready here": replace(HERE, ready=False, serving=False),
    "ready elsewhere": replace(HERE, node_name="there"),
    "terminating elsewhere": replace(HERE, node_name="there", ready=False, terminating=True),
    "unready elsewhere": replace(HERE, node_name="there", ready=False, serving=False),
}
"""The better ones first: who is here, then who is ready, then who still serves."""
PAIRS = list(itertools.combinations(COPIES, 2))


@pytest.mark.parametrize(("better", "worse"), PAIRS, ids=map(" before ".join, PAIRS))
def test_of_two_copies_of_an_endpoint_the_better_one_counts_in_either_order(better: str, worse: str) -> None:
    of = replace(service(), external_ips=("203.0.113.7",), external_local=True)
    alone = routes_of(of, [slice_of("a", COPIES[better])], NODE)
    for order in itertools.permutations([slice_of("a", COPIES[better]), slice_of("b", COPIES[worse])]):
        assert routes_of(of, order, NODE) == alone
