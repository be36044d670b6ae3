"""What is measured between the API server and the kernel: how long changes take, and how the connection fares."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.nodes import SECONDS, SERVED
from tests.lab import client
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from tests.cluster.nodes import Cluster, Tenant
    from tests.lab.process import Uproxy

pytestmark = pytest.mark.netns

PROGRAMMING: Final = "kubeproxy_network_programming_duration_seconds"
WATCHES: Final = 3
BEGINNING: Final = 0.05
"""A readiness is dated in whole seconds: one that changes this early in its second is dated right."""


def begin_a_second() -> None:
    """Wait for the beginning of one."""
    eventually(lambda: time.time() % 1 < BEGINNING)


def within_a_second(uproxy: Uproxy) -> float:
    return uproxy.metrics(le="1.0")[f"{PROGRAMMING}_bucket"]


def test_from_a_pods_readiness_to_its_first_connection_takes_less_than_a_second(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    with cluster.running() as uproxy:
        made = tenant.serve("web", lab.pod2)
        tenant.add_pod("web", lab.bridged2, ready=False)
        eventually(lambda: uproxy.metrics()["kubeproxy_sync_proxy_rules_endpoint_changes_total"] >= 2, within=SECONDS)
        before = uproxy.metrics()

        def quick() -> bool:
            number = within_a_second(uproxy)
            tenant.set_ready("web", lab.bridged2, ready=False)
            cluster.until_answered_by(lab.pod, made.vip, "pod2")
            begin_a_second()
            tenant.set_ready("web", lab.bridged2, ready=True)
            cluster.until_answered_by(lab.pod, made.vip, "pod2", "bridged2")
            return within_a_second(uproxy) > number

        eventually(quick, within=2 * SECONDS)
        after = uproxy.metrics()
    assert after[f"{PROGRAMMING}_count"] > before[f"{PROGRAMMING}_count"]
    assert after[f"{PROGRAMMING}_sum"] > before[f"{PROGRAMMING}_sum"]


def test_what_happened_before_the_start_is_no_measure_of_it(cluster: Cluster, tenant: Tenant) -> None:
    made = tenant.deploy("web", cluster.lab.pod2)
    begin_a_second()
    with cluster.running() as uproxy:
        client.poll(cluster.lab.pod, made.vip, SERVED)
        assert uproxy.metrics()[f"{PROGRAMMING}_count"] == 0


def test_changes_are_counted_and_none_stays_pending(cluster: Cluster, tenant: Tenant) -> None:
    prefix = "kubeproxy_sync_proxy_rules"
    with cluster.running() as uproxy:
        before, asked = uproxy.metrics(), time.time()
        made = tenant.serve("web", cluster.lab.pod2)
        tenant.remove_pod("web", cluster.lab.pod2)
        client.poll_refusal(cluster.lab.pod, made.vip, SERVED, within=SECONDS)
        tenant.delete("web")

        def counted() -> bool:
            found = uproxy.metrics()
            seen = [found[f"{prefix}_{kind}_changes_total"] - before[f"{prefix}_{kind}_changes_total"] for kind in ("service", "endpoint")]
            pending = [found[f"{prefix}_{kind}_changes_pending"] for kind in ("service", "endpoint")]
            return min(seen) >= 2 and pending == [0, 0]

        eventually(counted, within=SECONDS)
        after = uproxy.metrics()
        for name in ("last_queued_timestamp_seconds", "last_timestamp_seconds"):
            assert asked < after[f"{prefix}_{name}"] < time.time()


def test_requests_are_counted_as_kube_proxys_dashboards_ask_for_them(cluster: Cluster) -> None:
    host = cluster.plane.url.removeprefix("https://")
    with cluster.running() as uproxy:
        eventually(lambda: uproxy.metrics(code="201", method="POST", host=host).get("rest_client_requests_total") == 1, within=SECONDS)
        watches = uproxy.metrics(code="200", method="GET", host=host)["rest_client_requests_total"]
        assert watches >= WATCHES
        assert uproxy.metrics(verb="GET", host=host)["rest_client_request_duration_seconds_count"] == watches
        assert uproxy.metrics(verb="POST", host=host, le="4.0")["rest_client_request_duration_seconds_bucket"] == 1


def test_watches_that_begin_anew_are_counted_by_their_reason_and_forget_nothing(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    with cluster.running(settings={"kubernetes": {"watchTimeout": "1s", "retryLimit": "1s"}}) as uproxy:
        made = tenant.serve("web", lab.pod2)
        for kind in ("Service", "EndpointSlice", "Node"):
            ends = {"kind": kind, "reason": "timeout"}
            eventually(lambda: uproxy.metrics(**ends).get("uproxy_watch_restarts_total", 0) >= 2, within=SECONDS)  # noqa: B023 - called at once
        tenant.add_pod("web", lab.bridged2)
        cluster.until_answered_by(lab.pod, made.vip, "pod2", "bridged2")
        assert "watch_restarted" not in uproxy.log(), "the usual end of a watch is no news"
        assert sum("listed " in line for line in uproxy.lines) == WATCHES, "nothing is listed again for it"
        with cluster.without_api_server():
            eventually(lambda: _restarts_for_trouble(uproxy) >= 1, within=SECONDS)
            eventually(lambda: _silence(uproxy) > 1)
            cluster.until_answered_by(lab.outside, made.vip, "pod2", "bridged2")
            assert uproxy.metrics(code="<error>")["rest_client_requests_total"] > 0
        uproxy.wait_for_log("api_server_back", within=SECONDS)
        tenant.remove_pod("web", lab.pod2)
        cluster.until_answered_by(lab.pod, made.vip, "bridged2")
        assert _silence(uproxy) < 1


def _silence(uproxy: Uproxy) -> float:
    return uproxy.metrics(kind="EndpointSlice")["uproxy_watch_last_event_age_seconds"]


def _restarts_for_trouble(uproxy: Uproxy) -> float:
    name = "uproxy_watch_restarts_total"
    return uproxy.metrics()[name] - uproxy.metrics(reason="timeout")[name]
