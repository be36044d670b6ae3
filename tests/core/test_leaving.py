"""Which endpoints have left the slices of a Service that drains them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from uproxy.core.leaving import Leaving, Left, listed
from uproxy.core.model import Endpoint, EndpointSlice, Family, ObjectKey, Protocol, Service, ServiceOptions, SliceEndpoint, SlicePort

KEY = ObjectKey("default", "web")
A, B, C = (Endpoint(f"10.0.0.{number}", 80) for number in (1, 2, 3))
NOBODY: frozenset[Endpoint] = frozenset()


def web(drain: float = 30) -> Service:
    return Service(KEY, ("10.96.0.1",), (), options=ServiceOptions(drain=drain))


def a_slice(*addresses: str, name: str = "web-1", protocol: Protocol = Protocol.TCP) -> EndpointSlice:
    return slice_with(*map(SliceEndpoint, addresses), name=name, protocol=protocol)


def slice_with(*endpoints: SliceEndpoint, name: str = "web-1", protocol: Protocol = Protocol.TCP) -> EndpointSlice:
    return EndpointSlice(ObjectKey("default", name), KEY, Family.IPV4, endpoints, (SlicePort("http", protocol, 80),))


ABC, AB, ONLY_A = a_slice(A.address, B.address, C.address), a_slice(A.address, B.address), a_slice(A.address)


def test_who_leaves_is_told_once_with_those_who_stay() -> None:
    leaving = Leaving()
    assert leaving.compare(KEY, web(), [ABC]) == Left(KEY, NOBODY, frozenset({A, B, C}), 30)
    assert leaving.compare(KEY, web(), [ONLY_A]) == Left(KEY, frozenset({B, C}), frozenset({A}), 30)
    assert leaving.compare(KEY, web(), [ONLY_A]) is None


def test_who_returns_is_told_as_listed() -> None:
    leaving = Leaving()
    leaving.compare(KEY, web(), [AB])
    leaving.compare(KEY, web(), [ONLY_A])
    assert leaving.compare(KEY, web(), [AB]) == Left(KEY, NOBODY, frozenset({A, B}), 30)


def test_an_endpoint_that_is_not_ready_or_terminates_has_not_left() -> None:
    leaving = Leaving()
    leaving.compare(KEY, web(), [ONLY_A])
    for endpoint in (
        SliceEndpoint(A.address, ready=False),
        SliceEndpoint(A.address, ready=False, serving=False),
        SliceEndpoint(A.address, ready=False, terminating=True),
    ):
        assert leaving.compare(KEY, web(), [slice_with(endpoint)]) is None


def test_an_endpoint_that_moves_to_another_slice_has_not_left() -> None:
    leaving = Leaving()
    leaving.compare(KEY, web(), [AB])
    moved = a_slice(B.address, name="web-2")
    assert leaving.compare(KEY, web(), [AB, moved]) is None
    assert leaving.compare(KEY, web(), [ONLY_A, moved]) is None


def test_udp_endpoints_are_not_looked_at() -> None:
    assert listed([a_slice(A.address, protocol=Protocol.UDP), a_slice(B.address)]) == {B}


def test_nothing_is_remembered_of_a_service_without_the_annotation() -> None:
    leaving = Leaving()
    for slices in ([AB], [ONLY_A], []):
        assert leaving.compare(KEY, web(0), slices) is None


def test_who_left_before_the_annotation_was_there_is_not_told() -> None:
    leaving = Leaving()
    leaving.compare(KEY, web(0), [ABC])
    leaving.compare(KEY, web(0), [AB])
    assert leaving.compare(KEY, web(), [AB]) == Left(KEY, NOBODY, frozenset({A, B}), 30)


def test_once_the_annotation_is_gone_everybody_may_stay() -> None:
    leaving = Leaving()
    leaving.compare(KEY, web(), [AB])
    assert leaving.compare(KEY, web(0), [ONLY_A]) == Left(KEY, NOBODY, NOBODY, 0)
    assert leaving.compare(KEY, web(0), []) is None


def test_the_grace_is_the_one_that_is_asked_for_when_an_endpoint_leaves() -> None:
    leaving = Leaving()
    leaving.compare(KEY, web(30), [AB])
    left = leaving.compare(KEY, web(5), [ONLY_A])
    assert left is not None
    assert left.grace == 5


def test_a_service_that_is_gone_is_remembered_until_its_slices_are() -> None:
    leaving = Leaving()
    leaving.compare(KEY, web(), [AB])
    assert leaving.compare(KEY, None, [AB]) is None
    assert leaving.compare(KEY, None, []) == Left(KEY, frozenset({A, B}), NOBODY, 30)
    assert leaving.compare(KEY, None, []) is None


def test_one_that_returns_without_the_annotation_lets_all_stay() -> None:
    leaving = Leaving()
    leaving.compare(KEY, web(), [AB])
    leaving.compare(KEY, None, [AB])
    assert leaving.compare(KEY, web(0), [AB]) == Left(KEY, NOBODY, NOBODY, 0)


def test_services_do_not_know_each_other() -> None:
    leaving, other = Leaving(), ObjectKey("default", "other")
    leaving.compare(KEY, web(), [AB])
    assert leaving.compare(other, replace(web(), key=other), [ONLY_A]) == Left(other, NOBODY, frozenset({A}), 30)
    assert leaving.compare(KEY, web(), [AB]) is None


@given(st.lists(st.frozensets(st.sampled_from((A, B, C))), max_size=12))
def test_whatever_happens_the_told_ones_are_those_that_were_there_and_are_not(steps: list[frozenset[Endpoint]]) -> None:
    leaving, before = Leaving(), NOBODY
    for now in steps:
        left = leaving.compare(KEY, web(), [a_slice(*(endpoint.address for endpoint in now))])
        assert left == (None if now == before else Left(KEY, before - now, now, 30))
        before = now
