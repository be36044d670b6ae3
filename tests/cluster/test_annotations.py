"""Annotations by way of the real API server: what is asked for arrives, and what the cluster is told about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.nodes import PORTS, SECONDS, SERVED
from tests.lab import client
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from tests.cluster.api_client import Document
    from tests.cluster.nodes import Cluster, Tenant
    from tests.lab.process import Uproxy

pytestmark = pytest.mark.netns


def annotate(cluster: Cluster, tenant: Tenant, name: str, **values: str | None) -> None:
    """Patch a Service's annotations as `kubectl annotate --overwrite` does; None takes one off."""
    annotations = {f"uproxy.io/{each.replace('_', '-')}": value for each, value in values.items()}
    cluster.admin.patch("Service", name, {"metadata": {"annotations": annotations}}, tenant.namespace)


def described(cluster: Cluster, tenant: Tenant, uid: str, reason: str) -> list[Document]:
    """Give the Events that `kubectl describe service` shows: it asks the core API for those that regard the uid."""
    path = f"/api/v1/namespaces/{tenant.namespace}/events"
    items: list[Document] = cluster.admin.request("GET", path, fieldSelector=f"involvedObject.uid={uid},reason={reason}")["items"]
    return items


def test_a_client_of_a_service_scaled_to_zero_is_answered_by_the_pod_that_its_event_brings(
    cluster: Cluster, tenant: Tenant, uproxy: Uproxy
) -> None:
    lab = cluster.lab
    made = tenant.create("web", ports=[PORTS[0]])
    eventually(lambda: client.is_refused(lab.pod, made.vip, SERVED, patience=0.5), within=SECONDS)
    annotate(cluster, tenant, "web", hold="60s")
    waiting = eventually(lambda: client.tcp(lab.pod, made.vip, SERVED), within=SECONDS)
    with waiting:
        waiting.settimeout(SECONDS)
        waiting.sendall(b"who\n")
        watch = cluster.admin.watch("Event", tenant.namespace, fieldSelector="reason=NeedPods", seconds=round(SECONDS))
        event = next(watch)["object"]
        watch.close()
        tenant.add_pod("web", lab.pod2)
        assert waiting.recv(256).split()[0] == b"pod2"
    assert event["type"] == "Normal"
    assert event["action"] == "Hold"
    assert event["note"] == "a connection to the port 'tcp' waits for an endpoint"
    assert event["regarding"] == {"apiVersion": "v1", "kind": "Service", "name": "web", "namespace": tenant.namespace, "uid": made.uid}
    assert len(described(cluster, tenant, made.uid, "NeedPods")) == 1
    assert uproxy.metrics(outcome="served")["uproxy_hold_outcomes_total"] == 1


def test_a_bad_value_is_an_event_at_its_service_which_is_served_and_a_good_one_counts_at_once(
    cluster: Cluster, tenant: Tenant, uproxy: Uproxy
) -> None:
    lab = cluster.lab
    made = tenant.serve("web", lab.pod2, ports=[PORTS[0]])
    with client.tcp(lab.pod, made.vip, SERVED) as opened:
        assert client.who(opened).name == "pod2"
        annotate(cluster, tenant, "web", max_connections="few", drian="30s")
        eventually(lambda: len(described(cluster, tenant, made.uid, "AnnotationRefused")) == 2, within=SECONDS)
        found = described(cluster, tenant, made.uid, "AnnotationRefused")
        notes = sorted(event["message"] for event in found)
        assert notes[0].startswith("metadata.annotations[uproxy.io/drian]: there is no such annotation; there are uproxy.io/balance,")
        assert notes[1].startswith("metadata.annotations[uproxy.io/max-connections]: must be a number of connections")
        assert {event["type"] for event in found} == {"Warning"}
        assert client.ask(lab.pod, made.vip, SERVED).name == "pod2"
        refused = uproxy.metrics()["uproxy_source_refusals_total"]
        assert refused >= 2
        annotate(cluster, tenant, "web", max_connections="1", drian=None)
        eventually(lambda: _is_turned_away(cluster, made.vip), within=SECONDS)
        assert client.who(opened).name == "pod2"
        annotate(cluster, tenant, "web", max_connections=None)
        eventually(lambda: client.ask(lab.pod, made.vip, SERVED).name == "pod2", within=SECONDS)
        assert client.who(opened).name == "pod2"
    assert uproxy.metrics()["uproxy_source_refusals_total"] == refused


def _is_turned_away(cluster: Cluster, vip: str) -> bool:
    try:
        client.ask(cluster.lab.pod, vip, SERVED)
    except ConnectionResetError:
        return True
    return False
