"""Random histories of events through fold, policy, settle and diff, against a model that starts over each time.

The universe is small on purpose: few names, addresses and ports, so that Services meet on keys, slices
change hands, endpoints lead to service addresses and everything comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from uproxy.core.model import (
    Endpoint,
    EndpointSlice,
    Family,
    Kind,
    ObjectKey,
    Protocol,
    Refusal,
    Route,
    RouteKey,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
    family_of,
)
from uproxy.core.plan import Desired, diff
from uproxy.core.policy import NodeView, routes_of
from uproxy.core.state import Delete, Event, Listed, Put, State, fold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NODE = NodeView("n1", ("10.9.0.1", "fd00:9::1"))
SERVICES = [ObjectKey("default", name) for name in "abc"]
SLICES = [ObjectKey("default", f"slice-{number}") for number in range(4)]
VIPS = ["10.9.0.1", "10.9.0.2", "fd00:9::2"]
ENDPOINTS = {Family.IPV4: [*VIPS[:2], "10.0.0.1", "10.0.0.2"], Family.IPV6: [VIPS[2], "fd00::1"]}
NUMBERS = [80, 81]

names = st.sampled_from(["", "", "x"])
protocols = st.sampled_from([Protocol.TCP, Protocol.TCP, Protocol.UDP])  # few combinations, so that Services and slices often fit together
ports = st.builds(ServicePort, names, protocols, st.sampled_from(NUMBERS), st.sampled_from([0, 80, 81]))
services = st.builds(
    Service,
    st.sampled_from(SERVICES),
    st.lists(st.sampled_from(VIPS), min_size=1, max_size=2, unique_by=family_of).map(tuple),
    st.lists(ports, min_size=1, max_size=2, unique_by=lambda port: (port.name, port.protocol)).map(tuple),
    st.lists(st.sampled_from(VIPS), max_size=1).map(tuple),
    st.sampled_from([None, 60]),
)


def slices_of(family: Family) -> st.SearchStrategy[EndpointSlice]:
    node_names = st.sampled_from([None, "n1"])
    endpoints = st.builds(SliceEndpoint, st.sampled_from(ENDPOINTS[family]), st.booleans(), st.booleans(), st.booleans(), node_names)
    slice_ports = st.builds(SlicePort, names, protocols, st.sampled_from(NUMBERS))
    return st.builds(
        EndpointSlice,
        st.sampled_from(SLICES),
        st.sampled_from(SERVICES),
        st.just(family),
        st.lists(endpoints, min_size=1, max_size=3).map(tuple),
        st.lists(slice_ports, min_size=1, max_size=2).map(tuple),
    )


slices = st.sampled_from(Family).flatmap(slices_of)
events: st.SearchStrategy[Event] = (
    st.builds(Put, services)
    | st.builds(Put, slices)
    | st.builds(Put, slices)
    | st.builds(Delete, st.just(Kind.SERVICE), st.sampled_from(SERVICES))
    | st.builds(Delete, st.just(Kind.ENDPOINT_SLICE), st.sampled_from(SLICES))
    | st.builds(Listed, st.sampled_from(Kind))
)


def naive_endpoints(port: ServicePort, family: Family, found: Sequence[EndpointSlice]) -> set[Endpoint]:
    """Choose the endpoints of a port in the plainest way."""
    copies: dict[Endpoint, list[SliceEndpoint]] = {}
    for one in found:
        for number in [p.port for p in one.ports if (p.name, p.protocol) == (port.name, port.protocol)]:
            for endpoint in one.endpoints if one.family == family else ():
                copies.setdefault(Endpoint(endpoint.address, number), []).append(endpoint)
    ready, fallback = set(), set()
    for name, several in copies.items():
        counting = [one for one in several if one.node_name == NODE.name] or several
        if any(one.ready for one in counting):
            ready.add(name)
        elif any(one.serving and one.terminating for one in counting):
            fallback.add(name)
    return ready or fallback


def naive_routes(service: Service, found: Sequence[EndpointSlice]) -> dict[RouteKey, tuple[str, set[Endpoint]]]:
    """Give the keys of a Service, each with its port and its endpoints; the first port has a key that two want."""
    routes: dict[RouteKey, tuple[str, set[Endpoint]]] = {}
    families = {family_of(vip) for vip in service.cluster_ips}
    for port in service.ports:
        places = [(vip, port.port) for vip in service.cluster_ips + service.external_ips]
        places += [(address, port.node_port) for address in NODE.node_port_addresses if port.node_port]
        for vip, number in (one for one in places if family_of(one[0]) in families):
            routes.setdefault(RouteKey(vip, port.protocol, number), (port.name, naive_endpoints(port, family_of(vip), found)))
    return routes


class History(RuleBasedStateMachine):
    """Events arrive in batches; some batches are settled together."""

    def __init__(self) -> None:
        super().__init__()
        self.services: dict[ObjectKey, Service] = {}
        self.slices: dict[ObjectKey, EndpointSlice] = {}
        self.listed: set[Kind] = set()
        self.holders: dict[RouteKey, ObjectKey] = {}
        self.state = State()
        self.desired = Desired()
        self.effective: dict[RouteKey, Route] = {}
        self.refusals: dict[ObjectKey, tuple[Refusal, ...]] = {}
        self.running: dict[RouteKey, Route] = {}
        self.settled = True

    @rule(batch=st.lists(events, max_size=8))
    def arrive(self, batch: list[Event]) -> None:
        for event in batch:
            self.note(event)
        before = self.state
        self.state, change = fold(before, batch)
        assert self.state is before or change.services or self.state.listed != before.listed
        for name in change.services:
            service = self.state.services.get(name)
            if service is None:
                self.desired.drop(name)
            else:
                self.desired.put(name, routes_of(service, self.state.slices.get(name, {}).values(), NODE))
        self.settled = False

    def note(self, event: Event) -> None:
        """Keep the plainest record of what exists."""
        if isinstance(event, Listed):
            self.listed.add(event.kind)
        elif isinstance(event, Delete):
            (self.services if event.kind is Kind.SERVICE else self.slices).pop(event.key, None)
        elif isinstance(event.obj, Service):
            self.services[event.obj.key] = event.obj
        elif isinstance(event.obj, EndpointSlice):
            self.slices[event.obj.key] = event.obj

    @precondition(lambda self: not self.settled)
    @rule()
    def settle(self) -> None:
        result = self.desired.settle()
        for key, route in result.changed.items():
            assert self.effective.get(key) != route
            if route is None:
                del self.effective[key]
            else:
                self.effective[key] = route
        for service, refused in result.refusals.items():
            assert self.refusals.get(service, ()) != refused
            self.refusals[service] = refused
        self.perform(result.changed)
        self.settled = True
        self.check()

    def perform(self, changed: Mapping[RouteKey, Route | None]) -> None:
        plan = diff(self.running, changed)
        for route in plan.open:
            assert route.key not in self.running
            self.running[route.key] = route
        for route in plan.update:
            assert self.running[route.key] != route
            self.running[route.key] = route
        for key in plan.close:
            del self.running[key]

    def check(self) -> None:
        """Compare everything with what follows from the records alone (and from who held what before)."""
        wanted = {
            name: naive_routes(service, [one for one in self.slices.values() if one.service == name])
            for name, service in self.services.items()
        }
        claimants: dict[RouteKey, list[ObjectKey]] = {}
        for name, routes in wanted.items():
            for key in routes:
                claimants.setdefault(key, []).append(name)
        self.holders = {key: self.holders[key] if self.holders.get(key) in names else min(names) for key, names in claimants.items()}
        assert set(self.effective) == set(self.holders)
        loops = set()
        for key, holder in self.holders.items():
            port, endpoints = wanted[holder][key]
            looping = {one for one in endpoints if RouteKey(one.address, key.protocol, one.port) in claimants}
            loops |= {(holder, one) for one in looping}
            route = self.effective[key]
            assert route.service_port == (holder.namespace, holder.name, port, key.protocol)
            assert set(route.endpoints) == endpoints - looping
            assert len(route.endpoints) == len(set(route.endpoints))
            assert route.affinity_seconds == self.services[holder].affinity_seconds
        self.check_refusals(claimants, loops)

    def check_refusals(self, claimants: Mapping[RouteKey, list[ObjectKey]], loops: set[tuple[ObjectKey, Endpoint]]) -> None:
        lost = {(name, str(key)) for key, names in claimants.items() for name in names if name != self.holders[key]}
        for name in SERVICES:
            reasons = [refusal.reason for refusal in self.refusals.get(name, ())]
            assert len(reasons) == len(set(self.refusals.get(name, ())))
            of_keys = {(name, reason.split()[0]) for reason in reasons if "is held by Service" in reason}
            of_loops = {(name, reason.split()[1]) for reason in reasons if "is itself the" in reason}
            assert of_keys == {one for one in lost if one[0] == name}
            assert of_loops == {(service, str(endpoint)) for service, endpoint in loops if service == name}

    @invariant()
    def the_state_is_what_exists(self) -> None:
        assert self.services == self.state.services
        assert {key: one for found in self.state.slices.values() for key, one in found.items()} == self.slices
        assert all(one.service == name for name, found in self.state.slices.items() for one in found.values())
        assert all(self.state.slices.values())
        assert self.listed == self.state.listed
        assert (self.listed == set(Kind)) == self.state.complete

    @invariant()
    def what_runs_is_what_has_endpoints(self) -> None:
        assert self.running == {key: route for key, route in self.effective.items() if route.endpoints}

    def teardown(self) -> None:
        """When every Service is gone, nothing is left and nothing is refused."""
        self.arrive([Delete(Kind.SERVICE, name) for name in SERVICES])
        self.settle()
        assert not self.effective
        assert not any(self.refusals.values())
        assert not any(vars(self.desired)["_claimed"].values())
        assert not any(index for name, index in vars(self.desired).items() if name != "_claimed"), "something is remembered for ever"


# 10 s on a free CPU; pytest's own limit would otherwise be taken for a failing example on a busy one.
TestHistory = pytest.mark.timeout(600)(History.TestCase)
TestHistory.settings = settings(max_examples=100, stateful_step_count=20)
