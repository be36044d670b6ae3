"""What the cluster is told about a proxy and its Services, as `kubectl describe` shows it, and what that costs traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.certificates import NODE_PROXIER
from tests.cluster.control_plane import STATIC_TOKENS
from tests.cluster.nodes import DUAL, FIXED_PORT, PORTS, SECONDS, SERVED
from tests.cluster.overload import overloaded
from tests.lab import client
from tests.lab.waiting import eventually
from tests.netns.traffic import Traffic
from uproxy import __version__

if TYPE_CHECKING:
    from tests.cluster.api_client import ApiClient, Document
    from tests.cluster.nodes import Cluster, Tenant
    from tests.lab.process import Uproxy

pytestmark = pytest.mark.netns

QUICKER: Final = {"kubernetes": {"eventRepeat": "300ms", "retryBase": "200ms", "retryLimit": "1s"}}
"""An Event's count is written once a minute; 300 ms show the same."""
FLAPS: Final = 5
CONTESTED: Final = [{**PORTS[0], "nodePort": FIXED_PORT}]
CONFLICT: Final = {
    "type": "Warning",
    "reason": "FailedToListen",
    "action": "Listen",
    "reportingController": "uproxy",
    "reportingInstance": "node",
}


def events_about(admin: ApiClient, namespace: str, name: str) -> list[Document]:
    return [event for event in admin.list("Event", namespace)["items"] if event["regarding"]["name"] == name]


def times(event: Document) -> int:
    """Tell how often an Event happened."""
    return int(event.get("series", {}).get("count", 1))


def sent_and_dropped(uproxy: Uproxy) -> tuple[float, float]:
    found = uproxy.metrics()
    return found["uproxy_events_sent_total"], found.get("uproxy_events_dropped_total", 0)


def contest(tenant: Tenant, uproxy: Uproxy, *, failing: bool) -> None:
    """Have the Service ask for the node port, which a process of the host holds, or for none; wait until that is known."""
    if failing:
        tenant.change("web", type="NodePort", ports=CONTESTED)
    else:
        tenant.change("web", type="ClusterIP", ports=[PORTS[0]])
    eventually(lambda: uproxy.metrics()["uproxy_failed_listeners"] == failing, within=SECONDS)


def test_a_start_is_told_about_the_node(cluster: Cluster) -> None:
    cluster.admin.delete_all("Event", "default")
    with cluster.running() as uproxy:
        eventually(lambda: sent_and_dropped(uproxy) == (1, 0), within=SECONDS)
        (event,) = events_about(cluster.admin, "default", "node")
    expected = {
        "type": "Normal",
        "reason": "Starting",
        "action": "StartKubeProxy",
        "reportingController": "uproxy",
        "reportingInstance": "node",
    }
    assert event.items() >= expected.items()
    assert event["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": "node", "uid": "node"}
    assert event["note"] == f"uproxy {__version__}"


def test_a_node_port_that_a_process_of_the_host_holds_is_told_about_the_service_once_with_a_count(cluster: Cluster, tenant: Tenant) -> None:
    lab, node = cluster.lab, cluster.lab.node
    with cluster.running(settings=QUICKER) as uproxy:
        made = tenant.serve("web", lab.pod2, ports=[PORTS[0]])
        with client.listen(node, "0.0.0.0", FIXED_PORT), Traffic(lab.pod, made.vip, SERVED) as traffic:
            for failing in (True, False) * (FLAPS - 1):
                contest(tenant, uproxy, failing=failing)
            contest(tenant, uproxy, failing=True)
            eventually(lambda: [times(event) for event in events_about(cluster.admin, tenant.namespace, "web")] == [FLAPS], within=SECONDS)
        (event,) = events_about(cluster.admin, tenant.namespace, "web")
        assert event.items() >= CONFLICT.items()
        assert event["regarding"] == {"apiVersion": "v1", "kind": "Service", "name": "web", "namespace": tenant.namespace, "uid": made.uid}
        assert str(FIXED_PORT) in event["note"]
        assert traffic.errors() == []
        assert sent_and_dropped(uproxy)[1] == 0
        client.poll(lab.outside, node.address(4), FIXED_PORT, within=SECONDS)
        uproxy.wait_for_log("listening_again", str(FIXED_PORT))


def test_every_address_that_could_not_be_listened_on_is_named(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    with cluster.running(settings=QUICKER), client.listen(lab.node, "::", FIXED_PORT):
        tenant.serve("web", lab.pod2, type="NodePort", ports=CONTESTED, **DUAL)

        def named() -> bool:
            notes = [event["note"] for event in events_about(cluster.admin, tenant.namespace, "web")]
            return len(notes) >= 2 and all(any(address in note for note in notes) for address in lab.node.addresses)

        eventually(named, within=SECONDS)


def test_events_wait_for_a_server_that_has_no_time_for_them_while_traffic_follows_every_change(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    probe = cluster.plane.client(token=STATIC_TOKENS[NODE_PROXIER])
    with cluster.running(settings=QUICKER) as uproxy:
        made = tenant.serve("web", lab.pod2, ports=[PORTS[0]])
        eventually(lambda: sent_and_dropped(uproxy) == (1, 0), within=SECONDS)
        with overloaded(cluster.plane, NODE_PROXIER.name, ("create",)), client.listen(lab.node, "0.0.0.0", FIXED_PORT):
            eventually(lambda: probe.exchange("POST", probe.path("Event", tenant.namespace), {}, "application/json")[0] == 429, within=20)
            contest(tenant, uproxy, failing=True)
            eventually(lambda: uproxy.metrics(method="POST", code="429").get("rest_client_requests_total", 0) > 0, within=SECONDS)
            tenant.add_pod("web", lab.bridged2)
            cluster.until_answered_by(lab.pod, made.vip, "pod2", "bridged2")
            tenant.remove_pod("web", lab.pod2)
            cluster.until_answered_by(lab.pod, made.vip, "bridged2")
            assert events_about(cluster.admin, tenant.namespace, "web") == []
        eventually(lambda: sent_and_dropped(uproxy) == (2, 0), within=30)
        (event,) = events_about(cluster.admin, tenant.namespace, "web")
        assert event.items() >= CONFLICT.items()
