"""The own Node: eligible or about to go, missing at the start, with other addresses later."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster import objects
from tests.cluster.certificates import NODE_PROXIER
from tests.cluster.nodes import SECONDS
from tests.lab import client
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.nodes import Cluster, Tenant
    from tests.lab.process import Uproxy

pytestmark = pytest.mark.netns

TO_BE_DELETED: Final = {"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule"}
SECOND: Final = "10.0.2.77"
"""Another address of the second node, in the network of its first."""


@contextmanager
def registered_again(cluster: Cluster) -> Iterator[None]:
    """Have the second node's Node be as it was, whatever the body does to it."""
    try:
        yield
    finally:
        if "node2" in {each["metadata"]["name"] for each in cluster.admin.list("Node")["items"]}:
            cluster.admin.patch("Node", "node2", {"metadata": {"finalizers": None}})
            cluster.admin.delete("Node", "node2")
        cluster.register("node2")


@contextmanager
def second_address(cluster: Cluster) -> Iterator[None]:
    """Give the second node one more address for a while."""
    cluster.lab.node2.namespace.ip(f"addr add {SECOND}/24 dev eth0")
    try:
        yield
    finally:
        cluster.lab.node2.namespace.ip(f"addr del {SECOND}/24 dev eth0")


def until(uproxy: Uproxy, *, eligible: bool) -> None:
    """Wait until /healthz tells it; /livez never does."""

    def told() -> bool:
        reply = uproxy.get("/healthz")
        return reply.status == (200 if eligible else 503) and f'"nodeEligible": {str(eligible).lower()}' in reply.body

    eventually(told, within=SECONDS)
    assert uproxy.get("/livez").status == 200


def test_a_node_that_the_autoscaler_removes_is_not_healthy_but_alive_until_it_changes_its_mind(cluster: Cluster, tenant: Tenant) -> None:
    lab, admin = cluster.lab, cluster.admin
    made = tenant.deploy("web", lab.pod2)
    with cluster.running(host=lab.node2) as uproxy, registered_again(cluster):
        until(uproxy, eligible=True)
        for _ in range(2):
            admin.patch("Node", "node2", {"spec": {"taints": [TO_BE_DELETED]}})
            until(uproxy, eligible=False)
            assert client.poll(lab.remote, made.vip, 80).name == "pod2", "traffic that comes all the same is served"
            admin.patch("Node", "node2", {"spec": {"taints": None}})
            until(uproxy, eligible=True)


def test_a_node_that_is_being_deleted_is_not_healthy_but_alive_until_there_is_another(cluster: Cluster) -> None:
    admin = cluster.admin
    with cluster.running(host=cluster.lab.node2) as uproxy, registered_again(cluster):
        admin.patch("Node", "node2", {"metadata": {"finalizers": ["tests.example/hold"]}})
        admin.delete("Node", "node2")
        until(uproxy, eligible=False)
        admin.patch("Node", "node2", {"metadata": {"finalizers": None}})
        cluster.register("node2")
        until(uproxy, eligible=True)


def test_taints_and_deletions_of_other_nodes_are_no_concern(cluster: Cluster, tenant: Tenant) -> None:
    with cluster.running() as uproxy, registered_again(cluster):
        assert "objects=1" in uproxy.wait_for_log("listed", "kind=Node")
        cluster.admin.patch("Node", "node2", {"spec": {"taints": [TO_BE_DELETED]}})
        cluster.admin.delete("Node", "node2")
        tenant.serve("later", cluster.lab.pod2)
        until(uproxy, eligible=True)
        asked = [request for request in cluster.plane.requests(NODE_PROXIER.name) if request.path == "/api/v1/nodes"]
        assert {request.query["fieldSelector"] for request in asked[-1:]} == {"metadata.name=node"}


def test_a_missing_node_is_waited_for_in_vain_for_a_while_and_taken_when_it_appears(cluster: Cluster, tenant: Tenant) -> None:
    """Until there is one, node ports are served on the address that the machine itself takes for its first."""
    lab, admin = cluster.lab, cluster.admin
    first = lab.node2.address(4)
    port = tenant.deploy("web", lab.pod2, type="NodePort").node_ports[0]
    with registered_again(cluster), second_address(cluster):
        admin.delete("Node", "node2")
        with (
            client.measured() as taken,
            cluster.running(host=lab.node2, settings={"kubernetes": {"nodeWait": "1500ms"}}, healthy=False) as uproxy,
        ):
            uproxy.wait_for_log("listed", "kind=Service", within=SECONDS)
            assert uproxy.get("/healthz").status == 503, "it waits for its Node"
            uproxy.wait_healthy()
            line = uproxy.wait_for_log("node_missing", "Node node2", "--node-name")
            assert "waited_seconds=1.5" in line
            cluster.until_answered_by(lab.outside, first, "pod2", port=port)
            cluster.register("node2")
            objects.set_node_addresses(admin, "node2", [SECOND])
            cluster.until_answered_by(lab.outside, SECOND, "pod2", port=port)
            client.poll_refusal(lab.outside, first, port)
            assert sum("node_missing" in each for each in uproxy.lines) == 1
    assert taken[0] > 1.5


def test_a_node_whose_address_changes_serves_node_ports_there_and_disturbs_nothing_else(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    made = tenant.deploy("web", lab.pod2, type="NodePort")
    port = made.node_ports[0]
    first = lab.node2.address(4)
    with registered_again(cluster), second_address(cluster), cluster.running(host=lab.node2):
        cluster.until_answered_by(lab.outside, first, "pod2", port=port)
        cluster.until_answered_by(lab.remote, made.vip, "pod2")
        with client.tcp(lab.remote, made.vip, 80) as conversation, client.tcp(lab.outside, first, port) as old:
            assert client.who(conversation).name == client.who(old).name == "pod2"
            for address, other in ((SECOND, first), (first, SECOND)):
                objects.set_node_addresses(cluster.admin, "node2", [address])
                cluster.until_answered_by(lab.outside, address, "pod2", port=port)
                client.poll_refusal(lab.outside, other, port)
                assert client.ask(lab.remote, made.vip, 80).name == "pod2"
            assert client.who(conversation).name == client.who(old).name == "pod2"
