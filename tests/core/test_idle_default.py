"""The node's idle timeout: for TCP connections of the Services that say nothing of it themselves."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.core.objects import HTTP, service
from uproxy.core.model import Protocol, ServiceOptions, ServicePort
from uproxy.core.policy import NodeView, routes_of

BOTH = (HTTP, ServicePort("dns", Protocol.UDP, 53))


@pytest.mark.parametrize(
    ("node", "annotated", "expected"),
    [(0.0, 0.0, 0.0), (900.0, 0.0, 900.0), (900.0, 60.0, 60.0), (0.0, 60.0, 60.0)],
)
def test_the_annotation_wins_over_the_node(node: float, annotated: float, expected: float) -> None:
    asking = replace(service(ports=BOTH), options=ServiceOptions(idle_timeout=annotated, max_connections=7))
    found = routes_of(asking, [], NodeView("n1", idle_timeout=node)).routes
    assert {one.key.protocol: one.options for one in found} == {
        Protocol.TCP: ServiceOptions(idle_timeout=expected, max_connections=7),
        Protocol.UDP: ServiceOptions(),
    }
