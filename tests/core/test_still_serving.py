"""Endpoints that new clients are not led to, but where UDP flows stay: who serves at all, under any policy, hint or condition."""

from __future__ import annotations

import itertools

from msgspec.structs import replace

from tests.core.objects import key, service, slice_of
from tests.core.test_traffic_policy import HERE, NODE, THERE, leaving, unready
from uproxy.core.model import AddressClass, Endpoint, Protocol, RouteKey, ServicePort, SliceEndpoint, SlicePort
from uproxy.core.plan import Desired
from uproxy.core.policy import routes_of

DNS = (ServicePort("dns", Protocol.UDP, 53, 30053),)
DNS_SLICE = (SlicePort("dns", Protocol.UDP, 53),)
SERVED = service("dns", ports=DNS)
LOCAL = replace(SERVED, internal_local=True, external_local=True)
NEAR = replace(HERE, for_zones=("a",))
FAR = replace(THERE, for_zones=("b",))


def assert_staying(wanted: str, *endpoints: SliceEndpoint) -> None:
    """Assert that the routes of both classes let flows stay at endpoints whose addresses end with these numbers."""
    found = {
        one.address_class: " ".join(address.rpartition(".")[2] for address, _ in one.still_serving)
        for one in routes_of(SERVED, [slice_of("s", *endpoints, of="dns", ports=DNS_SLICE)], NODE).routes
    }
    assert found == {AddressClass.CLUSTER_IP: wanted, AddressClass.NODE_PORT: wanted}


def test_nobody_stays_where_all_that_serve_are_chosen() -> None:
    assert_staying("", HERE, THERE)
    assert_staying("", leaving(HERE), leaving(THERE))


def test_what_terminates_and_serves_keeps_its_flows() -> None:
    assert_staying("2", HERE, leaving(THERE))


def test_what_serves_no_more_keeps_none() -> None:
    assert_staying("", HERE, unready(THERE))


def test_hints_move_no_flow() -> None:
    assert_staying("2", NEAR, FAR)


def test_policy_local_moves_no_flow() -> None:
    internal = routes_of(LOCAL, [slice_of("s", HERE, THERE, of="dns", ports=DNS_SLICE)], NODE).routes[0]
    assert internal.still_serving == (Endpoint("10.0.0.2", 53),)


def test_who_is_inside_and_who_is_outside_have_theirs_already() -> None:
    external = routes_of(LOCAL, [slice_of("s", HERE, THERE, of="dns", ports=DNS_SLICE)], NODE).routes[1]
    assert (external.inside, external.still_serving) == ((Endpoint("10.0.0.1", 53), Endpoint("10.0.0.2", 53)), ())


def test_tcp_has_no_use_for_it() -> None:
    assert not any(one.still_serving for one in routes_of(service(), [slice_of("s", HERE, leaving(THERE))], NODE).routes)


def test_a_flow_may_not_stay_at_an_endpoint_that_would_come_back_here() -> None:
    desired = Desired()
    desired.put(key("dns"), routes_of(SERVED, [slice_of("s", HERE, leaving(THERE), of="dns", ports=DNS_SLICE)], NODE))
    desired.put(key("trap"), routes_of(service("trap", "10.0.0.2", ports=DNS), [], NODE))
    settled = desired.settle()
    kept = settled.changed[RouteKey("10.96.0.1", Protocol.UDP, 53)]
    assert kept is not None
    assert (kept.endpoints, kept.still_serving) == ((Endpoint("10.0.0.1", 53),), ())
    assert key("dns") not in settled.refusals, "nobody is led there, so there is nothing to tell"


def test_copies_that_differ_in_their_hints_alone_have_one_outcome_in_any_order() -> None:
    """While hints are recomputed an endpoint may be in two slices with different ones."""
    copies = [slice_of("a", NEAR, FAR), slice_of("b", replace(HERE, for_zones=("b",)), replace(THERE, for_zones=("a",)))]
    assert len({routes_of(service(), order, NODE) for order in itertools.permutations(copies)}) == 1
