"""What a load balancer is told at a Service's healthCheckNodePort: how many addresses of ready endpoints this node has."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.core.objects import service, slice_of
from uproxy.core.model import EndpointSlice, Protocol, SliceEndpoint, SlicePort
from uproxy.core.policy import HealthCheck, NodeView, routes_of

NODE = NodeView("here")
CHECKED = replace(service(), health_check_node_port=32000, external_local=True)
HERE = SliceEndpoint("10.0.0.1", node_name="here")
ALSO_HERE = SliceEndpoint("10.0.0.2", node_name="here")
SIX = SliceEndpoint("fd00::1", node_name="here")
LEAVING = replace(HERE, ready=False, terminating=True)
PORTS = (SlicePort("http", Protocol.TCP, 8080), SlicePort("metrics", Protocol.TCP, 9090))

COUNTED: dict[str, tuple[list[EndpointSlice], int]] = {
    "no slices": ([], 0),
    "none here": ([slice_of("a", SliceEndpoint("10.0.0.3", node_name="there"), "10.0.0.4")], 0),
    "two here, one elsewhere": ([slice_of("a", HERE, ALSO_HERE, SliceEndpoint("10.0.0.3", node_name="there"))], 2),
    "a pod with two ports counts once": ([slice_of("a", HERE, ports=PORTS)], 1),
    "a pod in two slices counts once": ([slice_of("a", HERE), slice_of("b", HERE, ports=PORTS)], 1),
    "who terminates does not count, though it serves": ([slice_of("a", LEAVING)], 0),
    "who terminates but is published as ready counts": ([slice_of("a", replace(HERE, terminating=True))], 1),
    "who is not ready does not count": ([slice_of("a", replace(HERE, ready=False))], 0),
    "slices without ports do not count": ([slice_of("a", HERE, ports=())], 0),
    "a pod with an address of each family counts once": ([slice_of("a", HERE), slice_of("b", SIX)], 1),
    "a pod of the other family alone counts": ([slice_of("b", SIX)], 1),
    "topology hints mean nothing": ([slice_of("a", replace(HERE, for_nodes=("there",)))], 1),
}


@pytest.mark.parametrize(("slices", "expected"), COUNTED.values(), ids=COUNTED)
def test_addresses_of_ready_endpoints_here_are_counted(slices: list[EndpointSlice], expected: int) -> None:
    assert routes_of(CHECKED, slices, NODE).health_check == HealthCheck(32000, expected)


def test_a_service_without_the_port_is_not_asked_about() -> None:
    assert routes_of(service(), [slice_of("a", HERE)], NODE).health_check is None
