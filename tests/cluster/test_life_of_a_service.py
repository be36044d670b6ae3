"""The life of one Service through all its types and policies, while somebody asks at each of its addresses from each side.

Not one request may fail, but those that Kubernetes' semantics demand: a test announces them with who meets them, which
error it is, and between which two changes. Connections that are open stay open through all of it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.asking import GONE, LOST, REFUSED, SILENT, Asker, Askers
from tests.cluster.clients import Address
from tests.cluster.life import BOTH, EXTERNAL, HERE, INSIDE, NODE_PORT, THERE, WEB, WHOLE_PORTS, Life
from tests.cluster.nodes import PORTS, SECONDS, SERVED
from tests.cluster.objects import ZONE_LABEL
from tests.lab import client
from tests.lab.servers import Servers
from tests.lab.topology import Host
from tests.lab.waiting import eventually
from tests.lab.wiring import BALANCER, POD_CIDRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.nodes import Cluster

pytestmark = pytest.mark.netns

LINGER: Final = "500ms"
"""For capture.linger, a minute by default: how long an address that is given up refuses before it is routed again."""
HELD: Final = 64
"""For tcp.heldConnections, 16 by default: more clients than that ask here at once."""
OUTSIDE_RANGES: Final = ["10.0.9.0/24", " fd10:0:9::/64 "]
OTHER_PORT: Final = 8090


@pytest.fixture(scope="module")
def lived(cluster: Cluster) -> Iterator[Life]:
    """Give the Service whose life it is, and all its clients."""
    settings = {"capture": {"linger": LINGER}, "tcp": {"heldConnections": HELD}}
    with cluster.running(settings=settings) as uproxy, cluster.tenant() as tenant, Life(cluster, tenant, uproxy) as life:
        yield life
        metrics = uproxy.metrics()
        for name in ("uproxy_sync_failures_total", "uproxy_redirect_repairs_total", "uproxy_failed_listeners"):
            assert metrics[name] == 0, uproxy.log()


@pytest.fixture
def life(lived: Life) -> Iterator[Life]:
    """Give it as it usually is; afterwards nobody has met anything unannounced and it is again."""
    lived.restore()
    yield lived
    lived.is_as_usual()


def test_its_type_changes_from_load_balancer_to_a_name_step_by_step_and_back(life: Life) -> None:
    """Each step down takes the addresses of one class away, and each step up gives them back: nobody else is disturbed."""
    askers = life.askers
    with askers.of("LoadBalancer").without_service(GONE, until=partial(life.become, "LoadBalancer")):
        life.become("NodePort")
        with askers.of("NodePort").without_service(GONE, until=partial(life.become, "NodePort")):
            life.become("ClusterIP")
            with askers.of("ClusterIP", "externalIP").without_service(GONE, until=partial(life.become, "ClusterIP")):
                life.change(type="ExternalName", externalName="example.net")
        askers.of("ClusterIP", "externalIP", "NodePort").are_served()


def test_it_is_deleted_and_made_again_with_the_addresses_that_it_had(life: Life) -> None:
    with life.askers.without_service(GONE, until=life.create):
        life.tenant.delete(WEB)


def test_its_load_balancer_gets_more_addresses_and_loses_them(life: Life) -> None:
    more = ("203.0.113.61", "2001:db8:113::61")
    for _ in range(2):
        life.set_ingress(*((address, "VIP") for address in more))
        for address in more:
            life.cluster.until_answered_by(life.cluster.lab.outside, address, *BOTH)
        life.set_ingress()
        for address in more:
            eventually(partial(_is_not_served, life, address), within=SECONDS)


def _is_not_served(life: Life, address: str) -> bool:
    try:
        client.ask(life.cluster.lab.outside, address, SERVED, patience=client.POLLING)
    except OSError:
        return True
    return False


def test_an_address_of_its_load_balancer_flips_between_the_node_and_the_load_balancer_itself(life: Life) -> None:
    """Nobody but those who ask at that address notices, and they only while it changes hands.

    A connection to the load balancer that is under way when the node takes the address over is reset; and when the node
    gives it up, new connections are refused until capture.linger is over.
    """
    lab = life.cluster.lab
    itself = Host("balancer", lab.outside.namespace, BALANCER)
    targets = [
        *(Asker(Address(lab[who], address, SERVED), "balancer's") for who in INSIDE for address in BALANCER),
        *(Asker(Address(lab.bridged, address, SERVED, "UDP"), "balancer's") for address in BALANCER),
    ]
    with Servers([itself], port=SERVED), Askers(targets) as flipping:
        flipping.are_answered_by("balancer")
        for mode, names in (("VIP", BOTH), ("Proxy", ("balancer",)), ("VIP", BOTH)):
            with flipping.excused(GONE):
                life.set_ingress(*((address, mode) for address in BALANCER))
                flipping.are_answered_by(*names)
        with flipping.excused(GONE):
            life.set_ingress()
            flipping.are_answered_by("balancer")
        flipping.assert_undisturbed()


def test_its_external_addresses_are_others_for_a_while(life: Life) -> None:
    others = ["198.51.100.61", "2001:db8:51::61"]
    with life.askers.of("externalIP").without_service(GONE, until=partial(life.change, externalIPs=list(EXTERNAL))):
        life.change(externalIPs=[*EXTERNAL, *others])
        life.change(externalIPs=others)
        for address in others:
            life.cluster.until_answered_by(life.cluster.lab.outside, address, *BOTH)


def test_source_ranges_keep_others_from_its_load_balancer_addresses_alone(life: Life) -> None:
    """Who is in no range hears nothing there from the moment when ranges are set until it is in one again."""
    balanced = life.askers.of("LoadBalancer")
    with balanced.at(*INSIDE, "far").without_service(SILENT, until=partial(life.change, loadBalancerSourceRanges=None)):
        life.change(loadBalancerSourceRanges=OUTSIDE_RANGES)
        back = partial(life.change, loadBalancerSourceRanges=OUTSIDE_RANGES)
        with balanced.at("outside").without_service(SILENT, until=back):
            life.change(loadBalancerSourceRanges=list(POD_CIDRS))
            balanced.at("bridged").are_served()


def test_its_external_policy_becomes_local_and_cluster_again(life: Life) -> None:
    """With endpoints on both nodes nothing fails. A datagram on its way to the other node may be lost as that endpoint leaves."""
    for _ in range(2):
        with life.external("outside").over("UDP").excused(LOST):
            life.change(externalTrafficPolicy="Local")
            life.external("outside", "far").are_answered_by(HERE)
        life.external(*INSIDE).are_answered_by(*BOTH)
        life.change(externalTrafficPolicy="Cluster")
        life.external("outside", "far").are_answered_by(*BOTH)


def test_its_internal_policy_becomes_local_and_cluster_again(life: Life) -> None:
    """With endpoints on both nodes nothing fails, but that one datagram."""
    internal = life.askers.of("ClusterIP")
    for _ in range(2):
        with internal.over("UDP").excused(LOST):
            life.change(internalTrafficPolicy="Local")
            internal.are_answered_by(HERE)
        life.change(internalTrafficPolicy="Cluster")
        internal.are_answered_by(*BOTH)


def test_under_policies_local_it_loses_its_endpoint_here_then_the_other_one_and_gets_both_back(life: Life) -> None:
    """Silent: outside, and everybody at the cluster IPs, from when the endpoint here goes until it is back.

    Pods and the node go on at external addresses. Refused: everybody, while there is no endpoint anywhere.
    """
    outside, internal, inside = life.external("outside", "far"), life.askers.of("ClusterIP"), life.external(*INSIDE)
    deprived = Askers([*outside, *internal])
    with life.askers.over("UDP").excused(LOST):
        port = life.change(externalTrafficPolicy="Local", internalTrafficPolicy="Local")["spec"]["healthCheckNodePort"]
        outside.are_answered_by(HERE)
        internal.are_answered_by(HERE)
        _await_health(life, port, b" 200 ")
        with ExitStack() as stack:
            life.refused(deprived, stack)
            with deprived.without_service(SILENT, until=partial(life.set_ready, HERE, ready=True)):
                life.set_ready(HERE, ready=False)
                deprived.meet(SILENT)
                silent_since = time.monotonic()
                inside.are_answered_by(THERE)
                _await_health(life, port, b" 503 ")
                assert {type(each.error) for one in deprived for each in one.since(silent_since)} == {TimeoutError}
                _lose_the_last_endpoint(life, inside)
        life.change(externalTrafficPolicy="Cluster", internalTrafficPolicy="Cluster")
        life.askers.are_answered_by(*BOTH)


def _lose_the_last_endpoint(life: Life, inside: Askers) -> None:
    """Have the endpoint on the other node go, too, and come back; `inside` reaches it before and afterwards."""
    with ExitStack() as stack:
        life.refused(inside, stack)
        life.set_ready(THERE, ready=False)
        life.askers.over("TCP").meet((ConnectionRefusedError,))
        life.set_ready(THERE, ready=True)
        inside.are_answered_by(THERE)


def _await_health(life: Life, port: int, status: bytes) -> None:
    """Wait until a load balancer's question on the node's health check port is answered so."""

    def asked() -> bool:
        lab = life.cluster.lab
        with client.tcp(lab.outside, lab.node.address(4), port) as conversation:
            conversation.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return status in client.read_all(conversation).partition(b"\r\n")[0]

    eventually(asked, within=SECONDS)


def test_affinity_comes_has_its_timeout_changed_and_goes(life: Life) -> None:
    for seconds in (None, 60, 1, 86400):
        config = {"clientIP": {"timeoutSeconds": seconds}} if seconds else None
        life.change(sessionAffinity="ClientIP", sessionAffinityConfig=config)
        eventually(partial(_assert_faithful, life, time.monotonic()), within=SECONDS)
    life.change(sessionAffinity="None", sessionAffinityConfig=None)
    life.askers.at("bridged").over("TCP").are_answered_by(*BOTH)


def _assert_faithful(life: Life, since: float) -> None:
    """Check that each client finds one endpoint alone, at whichever address of a family it asks."""
    for who in ("bridged", "node", "outside"):
        for family in (4, 6):
            same = life.askers.over("TCP").at(who).in_family(family)
            assert all(len(each.since(since)) > 3 for each in same)
            assert len({name for each in same for name in each.names(3)}) == 1, f"{who}, IPv{family}"


def test_its_ports_get_other_names(life: Life) -> None:
    """Until its slices bear the names too it has no endpoints, and refuses; so does every proxy that joins by the name."""
    for suffix in ("-renamed", ""):
        renamed = [{**port, "name": f"{port['name']}{suffix}"} for port in WHOLE_PORTS]
        with ExitStack() as stack:
            life.refused(life.askers, stack)
            life.change(ports=renamed)
            life.slices_say(names={str(port["name"]) for port in renamed})
            life.askers.are_answered_by(*BOTH)


def test_it_gets_another_port_and_loses_it(life: Life) -> None:
    lab = life.cluster.lab
    for _ in range(2):
        life.change(ports=[*WHOLE_PORTS, {**PORTS[0], "name": "more", "port": 8888}])
        for address in (*life.vips, *EXTERNAL):
            life.cluster.until_answered_by(lab.outside, address, *BOTH, port=8888)
        life.change(ports=WHOLE_PORTS)
        for address in (*life.vips, *EXTERNAL):
            client.poll_refusal(lab.outside, address, 8888, within=SECONDS)


def test_the_number_of_a_port_changes_and_changes_back(life: Life) -> None:
    """Refused: TCP at the former number, while it is another one. Node port and UDP are not concerned."""
    lab, (tcp, udp) = life.cluster.lab, WHOLE_PORTS
    concerned = life.askers.of("ClusterIP", "externalIP", "LoadBalancer").over("TCP")
    with concerned.without_service((ConnectionRefusedError, ConnectionResetError), until=partial(life.change, ports=WHOLE_PORTS)):
        life.change(ports=[{**tcp, "port": 8888}, udp])
        for address in (*life.vips, *EXTERNAL):
            life.cluster.until_answered_by(lab.outside, address, *BOTH, port=8888)


def test_a_node_port_changes_and_changes_back(life: Life) -> None:
    """Refused: TCP at the former number, while it is another one."""
    lab, (tcp, udp) = life.cluster.lab, WHOLE_PORTS
    concerned = life.askers.of("NodePort").over("TCP")
    with concerned.without_service((ConnectionRefusedError, ConnectionResetError), until=partial(life.change, ports=WHOLE_PORTS)):
        life.change(ports=[{**tcp, "nodePort": NODE_PORT + 1}, udp])
        for address in lab.node.addresses:
            life.cluster.until_answered_by(lab.outside, address, *BOTH, port=NODE_PORT + 1)


def test_its_pods_serve_on_another_port(life: Life) -> None:
    """A datagram on its way to the former one may be lost."""
    lab = life.cluster.lab
    with Servers([lab.pod2, lab.remote], port=OTHER_PORT, suffix="-8090"):
        for number, names in ((OTHER_PORT, ("pod2-8090", "remote-8090")), (8080, BOTH)):
            with life.askers.over("UDP").excused(LOST):
                life.change(ports=[{**port, "targetPort": number} for port in WHOLE_PORTS])
                life.slices_say(port=number)
                life.askers.are_answered_by(*names)


def test_its_second_family_goes_and_comes(life: Life) -> None:
    """Gone: what is of IPv6, and nothing else."""
    back = partial(life.become, "LoadBalancer")
    with life.askers.in_family(6).without_service(GONE, until=back):
        life.change(ipFamilyPolicy="SingleStack", ipFamilies=["IPv4"], clusterIPs=[life.vips[0]])


def test_hints_for_its_zone_and_its_node_are_followed(life: Life) -> None:
    """The controller writes them, as the Service's traffic distribution and the nodes' labels say."""
    try:
        _place(life, node="a", node2="b")
        # Datagrams on their way to the other node may be lost whenever its endpoint is passed over.
        with life.askers.over("UDP").excused(LOST):
            wishes = ("PreferSameZone", (HERE,)), (None, BOTH), ("PreferSameNode", (HERE,)), ("PreferSameZone", (HERE,))
            for distribution, names in wishes:
                life.change(trafficDistribution=distribution)
                life.askers.are_answered_by(*names)
            _place(life, node="b", node2="b")
            life.askers.are_answered_by(*BOTH)
            _place(life, node="a", node2="b")
            life.askers.are_answered_by(HERE)
            life.change(trafficDistribution=None)
            life.askers.are_answered_by(*BOTH)
    finally:
        for node in ("node", "node2"):
            _label(life, node, None)


def _place(life: Life, **zones: str) -> None:
    """Put the nodes into these zones, and wait until the Service's slices say so."""
    for node, zone in zones.items():
        _label(life, node, zone)
    life.slices_follow(zones)


def _label(life: Life, node: str, zone: str | None) -> None:
    life.cluster.admin.patch("Node", node, {"metadata": {"labels": {ZONE_LABEL: zone}}})


QUIET_ANNOTATIONS: Final = {
    "balance": ("least-connections", "round-robin", "nonsense"),
    "drain": ("1h", "1ms", "for ever"),
    "idle-timeout": ("1h", "2h", "-1s"),
    "max-connections": ("1000", "2000", "many"),
    "keep-client-address": ("never", "auto", "perhaps"),
    "hold": ("1m", "1s", "long"),
}
"""Each with two values that no client notices while all is well, and one that is refused."""


def test_annotations_come_change_are_mistaken_and_go(life: Life) -> None:
    for name, values in QUIET_ANNOTATIONS.items():
        for value in values:
            life.annotate({name: value})
            life.askers.are_served()
        eventually(partial(_assert_told, life, name), within=SECONDS)
    life.annotate(dict.fromkeys(QUIET_ANNOTATIONS))
    life.askers.are_answered_by(*BOTH)


def _assert_told(life: Life, annotation: str) -> None:
    """Check that the Service has an Event about the value that is refused."""
    events = life.cluster.admin.list("Event", life.tenant.namespace)["items"]
    notes = [each["note"] for each in events if each["reason"] == "AnnotationRefused"]
    assert any(f"uproxy.io/{annotation}]" in note for note in notes), notes


def test_a_proxy_header_is_sent_while_the_annotation_is_there(life: Life) -> None:
    """The endpoints of this lab understand version 1: through it both see the client, also the one that else sees the node."""
    outside = life.cluster.lab.outside.address(4)
    for _ in range(2):
        life.annotate({"proxy-protocol": "v1"})
        eventually(partial(_assert_seen, life, {(HERE, outside), (THERE, outside)}), within=SECONDS)
        life.annotate({"proxy-protocol": None})
        eventually(partial(_assert_seen, life, {(HERE, outside), (THERE, life.cluster.lab.node.address(4))}), within=SECONDS)


def _assert_seen(life: Life, expected: set[tuple[str, str]]) -> None:
    """Check whom the endpoints see when somebody outside asks at an external address."""
    answers = [client.ask(life.cluster.lab.outside, EXTERNAL[0], SERVED) for _ in range(8)]
    assert {(each.name, each.address) for each in answers} == expected


def test_with_hold_no_connection_fails_while_there_is_no_endpoint(life: Life) -> None:
    """Refused: datagrams, from when the last endpoint goes until the first one is there. Connections wait for it."""
    life.annotate({"hold": "1m"})
    life.askers.are_served()
    with ExitStack() as stack:
        life.refused(life.askers.over("UDP"), stack)
        life.set_ready(*BOTH, ready=False)
        life.askers.over("UDP").meet((*REFUSED, *SILENT))
        eventually(lambda: life.uproxy.metrics()["uproxy_held_connections"] >= len(life.askers.over("TCP")), within=SECONDS)
        life.set_ready(*BOTH, ready=True)
        life.askers.are_answered_by(*BOTH)
    life.annotate({"hold": None})


def test_beyond_max_connections_new_ones_are_reset_and_open_ones_stay(life: Life) -> None:
    """Reset: new TCP connections, from when the limit is what the open connections come to until there is none any more."""
    back = partial(life.annotate, {"max-connections": None})
    with life.askers.over("TCP").without_service((ConnectionResetError, BrokenPipeError), until=back):
        life.annotate({"max-connections": str(len(life.lasting))})
