"""The annotations of a Service: what each value means, and that a bad one costs nothing but itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.documents import both_ways, only, refused, service_document
from uproxy.core.annotations import NAMES
from uproxy.core.model import NO_OPTIONS, Protocol, Service, ServiceOptions
from uproxy.core.policy import NodeView, routes_of

GOOD: list[tuple[str, str, dict[str, Any]]] = [
    ("balance", "least-connections", {"least_connections": True}),
    ("balance", "round-robin", {}),
    ("drain", "30s", {"drain": 30.0}),
    ("drain", "1ms", {"drain": 0.001}),
    ("drain", "720h", {"drain": 2_592_000.0}),
    ("proxy-protocol", "v1", {"proxy_protocol": 1}),
    ("proxy-protocol", "v2", {"proxy_protocol": 2}),
    ("hold", "1m30s", {"hold": 90.0}),
    ("max-connections", "1", {"max_connections": 1}),
    ("max-connections", "999999999", {"max_connections": 999_999_999}),
    ("idle-timeout", "1h", {"idle_timeout": 3600.0}),
]
BAD: list[tuple[str, object, str]] = [
    *(("balance", value, "least-connections or round-robin") for value in ("random", "", "Least-Connections", None, 3)),
    *(
        (name, value, "write it like")
        for name in ("drain", "hold", "idle-timeout")
        for value in ("30", "", "-30s", "soon", None, 30, ["30s"])
    ),
    *((name, value, "1ms to 720h") for name in ("drain", "hold", "idle-timeout") for value in ("0", "0s", "0.9ms", "721h")),
    *(("proxy-protocol", value, "v1 or v2") for value in ("1", "v3", "V1", "", None, 2)),
    *(("max-connections", value, "in digits") for value in ("0", "-1", "1.5", "1e3", "", "many", "1000000000", "٣", None, 100)),
]


def options(annotations: dict[str, object]) -> ServiceOptions:
    service = only(service_document(annotations=annotations))
    assert isinstance(service, Service)
    return service.options


@pytest.mark.parametrize(("name", "value", "expected"), GOOD, ids=str)
def test_an_annotation_switches_on_what_it_says_and_nothing_else(name: str, value: str, expected: dict[str, Any]) -> None:
    assert options({f"uproxy.io/{name}": value}) == ServiceOptions(**expected)


def test_all_of_them_go_together() -> None:
    written: dict[str, object] = {f"uproxy.io/{name}": value for name, value, _ in GOOD if value != "round-robin"}
    assert options(written) == ServiceOptions(True, 2_592_000.0, 2, 90.0, 999_999_999, 3600.0)


@pytest.mark.parametrize(("name", "value", "reason"), BAD, ids=repr)
def test_a_bad_value_refuses_its_own_annotation_alone(name: str, value: object, reason: str) -> None:
    other = "max-connections" if name == "balance" else "balance"
    good = "7" if name == "balance" else "least-connections"
    service, *refusals = both_ways(service_document(annotations={f"uproxy.io/{name}": value, f"uproxy.io/{other}": good}))
    assert isinstance(service, Service)
    assert service.options == (ServiceOptions(max_connections=7) if name == "balance" else ServiceOptions(least_connections=True))
    ((field, told),) = refused(refusals)
    assert field == f"metadata.annotations[uproxy.io/{name}]"
    assert reason in told
    assert told.endswith("the Service is served without it")


def test_a_name_that_is_none_is_told_those_that_there_are() -> None:
    service, *refusals = both_ways(service_document(annotations={"uproxy.io/drian": "30s"}))
    assert isinstance(service, Service)
    assert service.options is NO_OPTIONS
    ((field, told),) = refused(refusals)
    assert field == "metadata.annotations[uproxy.io/drian]"
    assert all(name in told for name in NAMES)


@pytest.mark.parametrize(
    "annotations", [None, {}, {"example.com/drain": "30s", "uproxy.iodrain": "x", "uproxy.io": "x"}], ids=["null", "empty", "others'"]
)
def test_without_annotations_of_ours_nothing_is_switched_on(annotations: dict[str, object] | None) -> None:
    assert options(annotations or {}) is NO_OPTIONS


def test_they_are_for_tcp_alone() -> None:
    ports = [{"name": "dns-tcp", "port": 53}, {"name": "dns", "protocol": "UDP", "port": 53}]
    service = only(service_document({"ports": ports}, annotations={"uproxy.io/hold": "60s"}))
    assert isinstance(service, Service)
    routes = {route.key.protocol: route for route in routes_of(service, (), NodeView("node")).routes}
    assert routes[Protocol.TCP].has_listener
    assert routes[Protocol.TCP].options.hold == 60
    assert not routes[Protocol.UDP].has_listener
    assert routes[Protocol.UDP].options is NO_OPTIONS
