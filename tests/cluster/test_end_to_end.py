"""What is done to Services and Pods in a real API server is what clients on every side of a node meet."""

from __future__ import annotations

import errno
import itertools
import socket
import statistics
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.certificates import NODE_PROXIER
from tests.cluster.control_plane import STATIC_TOKENS
from tests.cluster.nodes import DUAL, PORTS, PROXY_NAME, SECONDS, SERVED
from tests.lab import client
from tests.lab.waiting import eventually
from tests.lab.ways import CLIENTS, FAMILIES, PROTOCOLS

if TYPE_CHECKING:
    from tests.cluster.nodes import Cluster, Tenant
    from tests.lab.process import Uproxy
    from tests.lab.topology import Host

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("uproxy")]

HEADLESS: Final = "service.kubernetes.io/headless"
EXTERNAL: Final = ("198.51.100.7", "2001:db8:51::7")


def seconds_to_refusal(who: Host, address: str) -> float:
    with client.open_socket(who, address, socket.SOCK_STREAM) as made, client.measured() as taken:
        assert made.connect_ex((address, SERVED)) == errno.ECONNREFUSED
    return taken[0]


def test_everybody_reaches_a_service_of_two_families_on_every_address_it_has(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    made = tenant.serve("web", lab.pod2, type="NodePort", externalIPs=EXTERNAL, **DUAL)
    for who, family, (number, protocol) in itertools.product(CLIENTS, FAMILIES, enumerate(PROTOCOLS)):
        six = family == 6
        entrances = ((made.vips[six], SERVED), (EXTERNAL[six], SERVED), (lab.node.address(family), made.node_ports[number]))
        for address, port in entrances:
            assert client.poll(lab[who], address, port, protocol).name == "pod2", (who, address, port, protocol)


def test_pods_reach_the_api_server_through_its_own_service(cluster: Cluster) -> None:
    vip = cluster.admin.get("Service", "kubernetes", "default")["spec"]["clusterIP"]

    def through_the_service(_: tuple[str, int]) -> socket.socket:
        return client.tcp(cluster.lab.pod, vip, 443)

    in_a_pod = type(cluster.admin)(cluster.plane.url, token=STATIC_TOKENS[NODE_PROXIER], connect=through_the_service)
    try:
        assert eventually(lambda: in_a_pod.list("Node"))["kind"] == "NodeList"
    finally:
        in_a_pod.close()


def test_scaling_moves_connections_and_with_nothing_left_they_are_refused_at_once(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    sides = (lab.pod, lab.node, lab.outside)
    made = tenant.serve("web", lab.pod2)
    for more in (lab.bridged2, lab.remote):
        tenant.add_pod("web", more)
    for who in sides:
        cluster.until_answered_by(who, made.vip, "pod2", "bridged2", "remote")
    for host in (lab.pod2, lab.remote):
        tenant.remove_pod("web", host)
    cluster.until_answered_by(lab.pod, made.vip, "bridged2")
    tenant.remove_pod("web", lab.bridged2)
    for who in sides:
        client.poll_refusal(who, made.vip, SERVED)
        assert statistics.median(seconds_to_refusal(who, made.vip) for _ in range(9)) < 0.005
        client.poll_refusal(who, made.vip, SERVED, "UDP")
    tenant.add_pod("web", lab.pod2)
    for who, protocol in itertools.product(sides, PROTOCOLS):
        assert client.poll(who, made.vip, SERVED, protocol).name == "pod2"


def test_only_pods_that_are_ready_get_connections(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    made = tenant.serve("web", lab.pod2)
    tenant.add_pod("web", lab.bridged2, ready=False)
    tenant.add_pod("web", lab.remote)
    cluster.until_answered_by(lab.pod, made.vip, "pod2", "remote")
    with client.tcp(lab.pod, made.vip, SERVED) as conversation:
        before = client.who(conversation)
        for host in (lab.pod2, lab.remote):
            tenant.set_ready("web", host, ready=False)
        client.poll_refusal(lab.pod, made.vip, SERVED)
        assert client.who(conversation) == before, "what is open stays open"
        tenant.set_ready("web", lab.bridged2, ready=True)
        cluster.until_answered_by(lab.pod, made.vip, "bridged2")
        assert client.who(conversation) == before, "what is open stays open"


def test_pods_that_terminate_serve_what_is_open_and_get_new_connections_only_when_nobody_else_is_left(
    cluster: Cluster, tenant: Tenant
) -> None:
    lab = cluster.lab
    made = tenant.serve("web", lab.pod2)
    with client.tcp(lab.pod, made.vip, SERVED) as conversation:
        assert client.who(conversation).name == "pod2"
        tenant.add_pod("web", lab.bridged2)
        cluster.until_answered_by(lab.pod, made.vip, "pod2", "bridged2")
        tenant.remove_pod("web", lab.pod2, gracefully=True)
        cluster.until_answered_by(lab.pod, made.vip, "bridged2")
        tenant.remove_pod("web", lab.bridged2)
        cluster.until_answered_by(lab.pod, made.vip, "pod2")
        assert client.who(conversation).name == "pod2"
        tenant.remove_pod("web", lab.pod2)
        client.poll_refusal(lab.pod, made.vip, SERVED)


def test_a_service_with_another_name_may_take_the_address_over(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    old = tenant.serve("old", lab.pod2, type="NodePort")
    with client.tcp(lab.pod, old.vip, SERVED) as conversation:
        assert client.who(conversation).name == "pod2"
        tenant.delete("old")
        client.poll_refusal(lab.pod, old.vip, SERVED)
        renamed = tenant.create(
            "new", clusterIP=old.vip, type="NodePort", selector={"app": "old"}, ports=[{**PORTS[0], "nodePort": old.node_ports[0]}]
        )
        assert renamed.uid != old.uid
        cluster.until_answered_by(lab.pod, old.vip, "pod2")
        cluster.until_answered_by(lab.outside, lab.node.address(4), "pod2", port=old.node_ports[0])
        assert client.who(conversation).name == "pod2", "what is open stays open"


def test_a_port_that_gets_another_name_or_number_goes_on_serving(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    made = tenant.serve("web", lab.pod2, ports=[PORTS[0]])
    with client.tcp(lab.pod, made.vip, SERVED) as conversation:
        assert client.who(conversation).name == "pod2"
        tenant.change("web", ports=[{**PORTS[0], "name": "renamed"}])
        eventually(lambda: _slice_ports(cluster, tenant) == {"renamed"}, within=SECONDS)
        cluster.until_answered_by(lab.pod, made.vip, "pod2")
        tenant.change("web", ports=[{**PORTS[0], "name": "renamed", "port": 8888}])
        cluster.until_answered_by(lab.pod, made.vip, "pod2", port=8888)
        client.poll_refusal(lab.pod, made.vip, SERVED)
        assert client.who(conversation).name == "pod2", "what is open stays open"


def _slice_ports(cluster: Cluster, tenant: Tenant) -> set[str]:
    slices = cluster.admin.list("EndpointSlice", tenant.namespace)["items"]
    return {port["name"] for each in slices for port in each["ports"] or ()}


def test_a_service_goes_through_all_its_types_and_back(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    node = lab.node.address(4)
    first = tenant.serve("web", lab.pod2)
    opened = tenant.change("web", type="NodePort")
    assert opened.vip == first.vip
    cluster.until_answered_by(lab.outside, node, "pod2", port=opened.node_ports[0])
    tenant.change("web", type="ClusterIP")
    client.poll_refusal(lab.outside, node, opened.node_ports[0])
    cluster.until_answered_by(lab.pod, first.vip, "pod2")
    tenant.change("web", type="ExternalName", externalName="example.net")
    client.poll_refusal(lab.pod, first.vip, SERVED)
    headless = tenant.change("web", type="ClusterIP", externalName=None, clusterIP="None", clusterIPs=["None"])
    assert headless.vips == ("None",)
    tenant.change("web", type="ExternalName", externalName="example.net", clusterIP=None, clusterIPs=None)
    last = tenant.change("web", type="NodePort", externalName=None)
    cluster.until_answered_by(lab.pod, last.vip, "pod2")
    cluster.until_answered_by(lab.outside, node, "pod2", port=last.node_ports[0])
    if last.vip != first.vip:
        client.poll_refusal(lab.pod, first.vip, SERVED)


def test_a_deleted_service_is_refused_and_its_neighbour_is_not_disturbed(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    goes = tenant.serve("goes", lab.pod2, type="NodePort", **DUAL)
    stays = tenant.serve("stays", lab.bridged2)
    with client.tcp(lab.pod, stays.vip, SERVED) as conversation:
        tenant.delete("goes")
        for who, address in itertools.product((lab.pod, lab.node, lab.outside), goes.vips):
            client.poll_refusal(who, address, SERVED)
        for family, (number, protocol) in itertools.product(FAMILIES, enumerate(PROTOCOLS)):
            client.poll_refusal(lab.outside, lab.node.address(family), goes.node_ports[number], protocol)
        assert client.who(conversation).name == "bridged2"


def test_a_second_family_may_come_and_go(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    made = tenant.serve("web", lab.pod2)
    with client.tcp(lab.pod, made.vip, SERVED) as conversation:
        both = tenant.change("web", ipFamilyPolicy="RequireDualStack")
        assert both.vips[0] == made.vip
        for who in (lab.pod, lab.outside):
            cluster.until_answered_by(who, both.vips[1], "pod2")
        tenant.change("web", ipFamilyPolicy="SingleStack", ipFamilies=["IPv4"], clusterIPs=[made.vip])
        client.poll_refusal(lab.pod, both.vips[1], SERVED)
        assert client.who(conversation).name == "pod2"


def test_a_service_of_the_second_family_alone_has_node_ports_of_that_family_alone(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    made = tenant.serve("six", lab.pod2, type="NodePort", ipFamilyPolicy="SingleStack", ipFamilies=["IPv6"])
    cluster.until_answered_by(lab.outside, made.vip, "pod2")
    cluster.until_answered_by(lab.outside, lab.node.address(6), "pod2", port=made.node_ports[0])
    client.poll_refusal(lab.outside, lab.node.address(4), made.node_ports[0])


def test_a_node_port_may_change(cluster: Cluster, tenant: Tenant) -> None:
    lab = cluster.lab
    node = lab.node.address(4)
    first = tenant.serve("web", lab.pod2, type="NodePort", ports=[PORTS[0]])
    cluster.until_answered_by(lab.outside, node, "pod2", port=first.node_ports[0])
    other = first.node_ports[0] - 1 if first.node_ports[0] > 31000 else first.node_ports[0] + 1
    with client.tcp(lab.outside, node, first.node_ports[0]) as conversation:
        assert client.who(conversation).name == "pod2"
        second = tenant.change("web", ports=[{**PORTS[0], "nodePort": other}])
        assert second.node_ports == (other,)
        cluster.until_answered_by(lab.outside, node, "pod2", port=other)
        client.poll_refusal(lab.outside, node, first.node_ports[0])
        assert client.who(conversation).name == "pod2", "what is open stays open"


@pytest.mark.parametrize(("label", "value"), [(PROXY_NAME, "other"), (PROXY_NAME, ""), (HEADLESS, "")])
def test_labels_that_exclude_a_service_work_on_a_live_one(cluster: Cluster, tenant: Tenant, label: str, value: str) -> None:
    lab = cluster.lab
    made = tenant.serve("web", lab.pod2, type="NodePort")
    for _ in range(2):
        tenant.change("web", {label: value})
        for who, address, port in ((lab.pod, made.vip, SERVED), (lab.outside, lab.node.address(4), made.node_ports[0])):
            client.poll_refusal(who, address, port)
        tenant.change("web", {label: None})
        cluster.until_answered_by(lab.pod, made.vip, "pod2")
        cluster.until_answered_by(lab.outside, lab.node.address(4), "pod2", port=made.node_ports[0])


def test_a_proxy_with_a_name_serves_what_carries_it_and_nothing_else(cluster: Cluster, tenant: Tenant, uproxy: Uproxy) -> None:
    """Pod `remote` is on the second node, where the one with the name runs; the node has the one without."""
    lab = cluster.lab
    plain, named = tenant.serve("plain", lab.pod2, type="NodePort"), tenant.serve("named", lab.pod2, type="NodePort")
    with cluster.running("--service-proxy-name", "special", host=lab.node2) as special:
        client.poll_refusal(lab.outside, lab.node2.address(4), named.node_ports[0])
        tenant.change("named", {PROXY_NAME: "special"})
        cluster.until_answered_by(lab.remote, named.vip, "pod2")
        cluster.until_answered_by(lab.outside, lab.node2.address(4), "pod2", port=named.node_ports[0])
        client.poll_refusal(lab.pod, named.vip, SERVED)
        client.poll_refusal(lab.outside, lab.node2.address(4), plain.node_ports[0])
        eventually(lambda: special.metrics()["uproxy_services"] == 1)
        tenant.change("named", {PROXY_NAME: "another"})
        client.poll_refusal(lab.outside, lab.node2.address(4), named.node_ports[0])
        tenant.change("named", {PROXY_NAME: None})
        cluster.until_answered_by(lab.pod, named.vip, "pod2")
        eventually(lambda: special.metrics()["uproxy_services"] == 0)
        eventually(lambda: uproxy.metrics()["uproxy_services"] == len(cluster.admin.list("Service")["items"]))
