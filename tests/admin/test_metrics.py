"""What a scrape gives: the data path's integers under stable names, per Service only on request."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.admin.measured import Carried, measured
from uproxy.admin.metrics import Measured, Metrics
from uproxy.config import MetricsSettings
from uproxy.core.model import Endpoint, EndpointSlice, Family, Kind, ObjectKey, Protocol, Service, ServicePortName
from uproxy.core.state import Delete, Put
from uproxy.dataplane.counters import Traffic

KEY = ObjectKey("default", "web")


def scrape(numbers: Measured) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Give the value of each series."""
    families = text_string_to_metric_families(Metrics(numbers).text().decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


def carrying(ports: int) -> Carried:
    carried = Carried()
    for number in range(ports):
        traffic = Traffic()
        traffic.accepted, traffic.received, traffic.sent = number, 10, 20
        carried.ports[ServicePortName("default", f"web-{number}", "http", Protocol.TCP)] = traffic
    return carried


def test_totals_and_reasons_are_exposed() -> None:
    numbers = measured(carrying(3))
    numbers.counters.connect_failures["ECONNREFUSED"] = 7
    numbers.counters.ejections = 2
    found = scrape(numbers)
    assert found["uproxy_connections_accepted_total", ()] == 3
    assert found["uproxy_bytes_total", (("direction", "sent"),)] == 60
    assert found["uproxy_connect_failures_total", (("reason", "ECONNREFUSED"),)] == 7
    assert found["uproxy_ejections_total", ()] == 2
    assert found["uproxy_descriptors_budget", ()] == 900


def test_kernel_drops_are_asked_for_at_each_scrape() -> None:
    carried = Carried()
    scrape(measured(carried))
    assert carried.asked_for_drops == 1


def test_syncs_are_a_histogram_under_kube_proxys_name() -> None:
    numbers = measured()
    for seconds in (0.0005, 0.003, 100):
        numbers.stats.synced(seconds, 1234.5)
    found = scrape(numbers)
    name = "kubeproxy_sync_proxy_rules_duration_seconds"
    assert found[f"{name}_bucket", (("le", "0.001"),)] == 1
    assert found[f"{name}_bucket", (("le", "0.004"),)] == 2
    assert found[f"{name}_bucket", (("le", "+Inf"),)] == found[f"{name}_count", ()] == 3
    assert found[f"{name}_sum", ()] == pytest.approx(100.0035)
    assert found["kubeproxy_sync_proxy_rules_last_timestamp_seconds", ()] == 1234.5


def test_changes_are_counted_by_kind_until_a_round_takes_them() -> None:
    numbers = measured()
    numbers.stats.queued([Put(Service(KEY, (), ())), Put(EndpointSlice(KEY, KEY, Family.IPV4)), Delete(Kind.ENDPOINT_SLICE, KEY)], 5.0)
    prefix = "kubeproxy_sync_proxy_rules"
    found = scrape(numbers)
    assert (found[f"{prefix}_service_changes_pending", ()], found[f"{prefix}_endpoint_changes_pending", ()]) == (1, 2)
    assert found[f"{prefix}_last_queued_timestamp_seconds", ()] == 5
    numbers.stats.taken()
    found = scrape(numbers)
    assert (found[f"{prefix}_service_changes_pending", ()], found[f"{prefix}_service_changes_total", ()]) == (0, 1)
    assert (found[f"{prefix}_endpoint_changes_pending", ()], found[f"{prefix}_endpoint_changes_total", ()]) == (0, 2)


def test_services_have_no_series_of_their_own_unless_asked_for() -> None:
    assert not [name for name, _ in scrape(measured(carrying(3))) if name.startswith("uproxy_service_")]


def test_series_per_service_are_capped_and_those_left_out_counted() -> None:
    found = scrape(measured(carrying(5), MetricsSettings(per_service=True, per_service_limit=2)))
    accepted = [labels for name, labels in found if name == "uproxy_service_connections_accepted_total"]
    assert [dict(labels)["service"] for labels in accepted] == ["web-0", "web-1"]
    assert found["uproxy_service_series_left_out", ()] == 3


def test_suspect_endpoints_and_refusals_are_exposed() -> None:
    carried = Carried()
    carried.refusals["yaml"] = 4
    numbers = measured(carried)
    numbers.ejector.failed(Endpoint("10.0.0.1", 80), 0)
    found = scrape(numbers)
    assert found["uproxy_suspect_endpoints", ()] == 1
    assert found["uproxy_source_refusals_total", (("reason", "yaml"),)] == 4
