"""Addresses that come and go: load-balancer addresses and their source ranges, node ports, external IPs, types and ports."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest

from tests.lab import client
from tests.lab.manifests import endpoint_slice, service, targets
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES, PROTOCOLS
from tests.lab.wiring import BALANCER
from tests.netns.answering import EXTERNAL, await_answers, await_refusal, await_silence

if TYPE_CHECKING:
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

ONE_SYNC_SECONDS = 1.0
OUTSIDE_RANGES = ("10.0.9.0/24", " fd10:0:9::/64 ")
NODE_RANGES = ("10.0.1.1/32", "fd10:0:1::1/128")


def behind(stand: Stand) -> list[tuple[str, int]]:
    return targets([stand.lab.pod2])


def listening(stand: Stand, port: int) -> str:
    """Give what ss says of sockets on the node's port, of either protocol."""
    return stand.lab.node.namespace.run("ss", "-Hltun", f"sport = :{port}")


def await_nobody_listens(stand: Stand, port: int) -> None:
    eventually(lambda: not listening(stand, port), within=ONE_SYNC_SECONDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_load_balancer_address_is_served_on_the_node(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"balanced-{family}")
    more = ({"ip": "203.0.113.120"}, {"ip": "2001:db8:113::120", "ipMode": "VIP"}, {"hostname": "lb.example"})
    shared.services.put(served, behind(shared), ingress=(*served.ingress(), *more))
    await_answers(shared, served, ["LoadBalancer"], family, {who: {"pod2"} for who in ("pod", "node", "outside")})
    for protocol in PROTOCOLS:
        assert client.ask(shared.lab.outside, more[family == 6]["ip"], 80, protocol).name == "pod2"
    shared.services.put(served, behind(shared), ingress=served.ingress())
    client.poll(shared.lab.outside, served.balancer(family), 80)
    eventually(partial(is_not_served, shared, "pod", more[family == 6]["ip"]))


def is_not_served(stand: Stand, who: str, address: str, port: int = 80) -> bool:
    """Tell whether nobody answers: what is not captured is routed, and leads nowhere."""
    try:
        client.ask(stand.lab[who], address, port, patience=0.3)
    except OSError:
        return True
    return False


def test_an_address_of_mode_proxy_is_left_to_the_load_balancer_and_flips_are_followed(stand: Stand) -> None:
    """The address stays captured until its last connection has ended and capture.linger is over."""
    stand.start_with("capture: {linger: 200ms}")
    for family in FAMILIES:
        address = BALANCER[family == 6]
        served = stand.services.plan(f"flipping-{family}")
        with client.listen(stand.lab.outside, address, 80) as balancer:
            for _ in range(2):
                stand.services.put(served, behind(stand), ingress=[{"ip": address, "ipMode": "VIP"}])
                assert eventually(partial(client.ask, stand.lab.pod, address, 80, patience=client.POLLING)).name == "pod2"
                stand.services.put(served, behind(stand), ingress=[{"ip": address, "ipMode": "Proxy"}])
                eventually(partial(reaches, stand, balancer, address))


def reaches(stand: Stand, balancer: socket.socket, address: str) -> bool:
    """Tell whether a pod's connection arrives at the load balancer itself."""
    balancer.settimeout(client.POLLING)
    with client.tcp(stand.lab.pod, address, 80):
        accepted, _ = balancer.accept()
        accepted.close()
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_who_is_outside_the_source_ranges_hears_nothing_at_the_load_balancer_address_alone(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"ranges-{family}")
    shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=OUTSIDE_RANGES)
    await_answers(shared, served, ["LoadBalancer"], family, {"outside": {"pod2"}})
    await_silence(shared, served, ["LoadBalancer"], family, "far", "pod", "node")
    others = ["ClusterIP", "NodePort", "externalIP"]
    await_answers(shared, served, others, family, {who: {"pod2"} for who in ("far", "pod", "node")})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_node_itself_may_come_in_when_it_is_in_a_range(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"node-in-range-{family}")
    shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=NODE_RANGES)
    await_answers(shared, served, ["LoadBalancer"], family, {"node": {"pod2"}})
    await_silence(shared, served, ["LoadBalancer"], family, "outside", "pod")


def test_ranges_of_the_other_family_alone_keep_nobody_out(shared: Stand) -> None:
    served = shared.services.plan("other-family")
    shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=["2001:db8:dead::/64"])
    await_answers(shared, served, ["LoadBalancer"], 4, {"outside": {"pod2"}})
    await_silence(shared, served, ["LoadBalancer"], 6, "outside")


@pytest.mark.parametrize("family", FAMILIES)
def test_ranges_that_change_hold_for_new_clients_while_open_connections_stay(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"closing-{family}")
    address = served.balancer(family)
    shared.services.put(served, behind(shared), ingress=served.ingress())
    client.poll(shared.lab.outside, address, 80)
    with client.tcp(shared.lab.outside, address, 80) as conversation:
        assert client.who(conversation).name == "pod2"
        shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=NODE_RANGES)
        await_silence(shared, served, ["LoadBalancer"], family, "outside")
        assert client.who(conversation).name == "pod2"
        shared.services.put(served, behind(shared), ingress=served.ingress(), ranges=OUTSIDE_RANGES)
        await_answers(shared, served, ["LoadBalancer"], family, {"outside": {"pod2"}})
        assert client.who(conversation).name == "pod2"


@pytest.mark.parametrize("family", FAMILIES)
def test_source_ranges_and_policy_local_hold_together(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"both-{family}")
    elsewhere = targets([shared.lab.remote])
    everyone = ("10.0.0.0/8", "fd10::/16")
    shared.services.put(served, elsewhere, ingress=served.ingress(), ranges=everyone, external="Local")
    await_silence(shared, served, ["LoadBalancer"], family, "outside")
    await_answers(shared, served, ["LoadBalancer"], family, {"pod": {"remote"}, "node": {"remote"}})
    shared.services.put(served, elsewhere, ingress=served.ingress(), ranges=OUTSIDE_RANGES, external="Local")
    await_silence(shared, served, ["LoadBalancer"], family, "outside", "pod")


def test_external_ips_can_be_switched_off_at_the_start(stand: Stand) -> None:
    stand.start("--allow-external-ips=false")
    served = stand.serve("web", stand.lab.pod2)
    for family in FAMILIES:
        await_answers(stand, served, ["NodePort"], family, {"outside": {"pod2"}})
        for who in ("pod", "node", "outside"):
            assert is_not_served(stand, who, served.external(family))


def test_external_ips_can_be_switched_off_and_on_while_it_runs(stand: Stand) -> None:
    stand.start_with("allowExternalIps: true", "capture: {linger: 200ms}")
    served = stand.serve("web", stand.lab.pod2)
    with client.tcp(stand.lab.outside, served.external(4), 80) as conversation:
        for _ in range(2):
            for family in FAMILIES:
                await_answers(stand, served, ["externalIP"], family, {"outside": {"pod2"}, "pod": {"pod2"}})
            stand.set("allowExternalIps: false", "capture: {linger: 200ms}")
            for family in FAMILIES:
                eventually(partial(is_not_served, stand, "outside", served.external(family)))
                await_answers(stand, served, ["ClusterIP", "NodePort"], family, {"pod": {"pod2"}})
            stand.set("allowExternalIps: true", "capture: {linger: 200ms}")
        assert client.who(conversation).name == "pod2", "an open connection goes on"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_external_ip_that_comes_to_the_node_and_leaves_it_is_served_all_the_time(stand: Stand, family: int) -> None:
    stand.start_with("capture: {linger: 200ms}")
    served = stand.serve("web", stand.lab.pod2)
    own, prefix = served.external(family), 128 if family == 6 else 32
    for _ in range(2):
        stand.lab.node.namespace.ip(f"addr add {own}/{prefix} dev lo")
        eventually(partial(is_bound, stand, own, served.port))
        await_answers(stand, served, ["externalIP"], family, {who: {"pod2"} for who in ("pod", "node", "outside")})
        with client.listen(stand.lab.node, own, 2222):
            client.tcp(stand.lab.outside, own, 2222).close()
        stand.lab.node.namespace.ip(f"addr del {own}/{prefix} dev lo")
        await_answers(stand, served, ["externalIP"], family, {who: {"pod2"} for who in ("pod", "node", "outside")})
        assert not is_bound(stand, own, served.port)


def is_bound(stand: Stand, address: str, port: int) -> bool:
    """Tell whether somebody listens on the very port of an address."""
    return address in listening(stand, port)


def test_external_ips_count_as_external(stand: Stand) -> None:
    stand.start()
    served = stand.services.plan("web")
    stand.services.put(served, targets([stand.lab.remote]), node_ports=False, external="Local")
    await_silence(stand, served, ["externalIP"], 4, "outside")
    await_answers(stand, served, ["externalIP", "ClusterIP"], 4, {"pod": {"remote"}})
    name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
    assert stand.uproxy.metrics(traffic_policy="external")[name] > 0
    assert stand.uproxy.metrics(traffic_policy="internal")[name] == 0


def test_a_node_port_is_released_at_once_when_its_service_goes(shared: Stand) -> None:
    served = shared.serve("released", shared.lab.pod2)
    assert listening(shared, served.node_port)
    with client.tcp(shared.lab.outside, shared.lab.node.address(4), served.node_port) as conversation:
        assert client.who(conversation).name == "pod2"
        shared.services.remove(served)
        await_nobody_listens(shared, served.node_port)
        assert client.who(conversation).name == "pod2", "an open connection goes on"
        for family in FAMILIES:
            assert client.is_refused(shared.lab.outside, shared.lab.node.address(family), served.node_port)


def test_a_node_port_that_one_service_gives_up_may_be_anothers_at_once(shared: Stand) -> None:
    first = shared.serve("giving", shared.lab.pod2)
    second = shared.services.plan("taking")._replace(node_port=first.node_port)
    shared.services.remove(first)
    shared.services.put(second, targets([shared.lab.bridged]))
    for family in FAMILIES:
        await_answers(shared, second, ["NodePort"], family, {"outside": {"bridged"}})


def test_a_node_port_that_changes_is_served_at_its_new_number_alone(shared: Stand) -> None:
    first = shared.serve("renumbered", shared.lab.pod2)
    second = first._replace(node_port=first.node_port + 1000)
    shared.services.put(second, behind(shared))
    for family in FAMILIES:
        await_answers(shared, second, ["NodePort", "ClusterIP"], family, {"outside": {"pod2"}})
        assert client.is_refused(shared.lab.outside, shared.lab.node.address(family), first.node_port)
    assert not listening(shared, first.node_port)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_service_goes_through_its_types_without_breaking_a_connection(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"changing-{family}")
    shared.services.put(served, behind(shared), node_ports=False)
    client.poll(shared.lab.pod, served.vip(family), 80)
    with client.tcp(shared.lab.pod, served.vip(family), 80) as conversation:
        await_refusal(shared, served, ["NodePort"], family, "outside")
        shared.services.put(served, behind(shared))
        await_answers(shared, served, ["NodePort"], family, {"outside": {"pod2"}})
        shared.services.put(served, behind(shared), ingress=served.ingress())
        await_answers(shared, served, EXTERNAL, family, {"outside": {"pod2"}})
        shared.services.put(served, behind(shared), ingress=served.ingress(), node_ports=False)
        await_nobody_listens(shared, served.node_port)
        await_answers(shared, served, ["LoadBalancer"], family, {"outside": {"pod2"}})
        shared.services.put(served, behind(shared), node_ports=False)
        eventually(partial(is_not_served, shared, "pod", served.balancer(family)))
        assert client.who(conversation).name == "pod2"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_service_whose_port_and_addresses_change_is_served_at_the_new_ones_alone(shared: Stand, family: int) -> None:
    first = shared.serve(f"moving-{family}", shared.lab.pod2)
    second = first._replace(port=8443)
    shared.services.put(second, behind(shared))
    await_answers(shared, second, ["ClusterIP", "externalIP"], family, {"pod": {"pod2"}, "outside": {"pod2"}})
    await_refusal(shared, first, ["ClusterIP", "externalIP"], family, "pod", "outside")
    third = shared.services.plan(first.name, port=8443)
    shared.services.put(third, behind(shared))
    await_answers(shared, third, ["ClusterIP", "externalIP", "NodePort"], family, {"outside": {"pod2"}})
    eventually(partial(is_not_served, shared, "pod", second.vip(family), 8443))


def test_a_family_can_be_added_and_removed(shared: Stand) -> None:
    served = shared.serve("families", shared.lab.pod2)
    to = behind(shared)
    slices = [endpoint_slice(served.name, family, to) for family in FAMILIES]
    whole = service(served)
    spec = cast("dict[str, object]", whole["spec"])
    single = {**whole, "spec": {**spec, "clusterIPs": served.cluster_ips[:1], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}}
    for _ in range(2):
        shared.services.write(served.name, single, *slices)
        eventually(partial(is_not_served, shared, "pod", served.vip(6)))
        assert client.ask(shared.lab.pod, served.vip(4), 80).name == "pod2"
        shared.services.put(served, behind(shared))
        await_answers(shared, served, ["ClusterIP"], 6, {"pod": {"pod2"}})


@pytest.mark.parametrize("family", FAMILIES)
def test_load_balancers_are_told_whether_this_node_has_endpoints(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"checked-{family}")
    port = 32000 + family
    node = shared.lab.node.address(family)
    for names, status in ((["pod2"], b" 200 "), (["remote"], b" 503 "), (["pod2", "remote"], b" 200 "), ([], b" 503 ")):
        to = targets([shared.lab[name] for name in names])
        shared.services.put(served, to, ingress=served.ingress(), external="Local", health_check=port)
        eventually(lambda status=status: status in health(shared, node, port))  # type: ignore[misc]  # a lambda's default has no type
    shared.services.put(served, behind(shared), ingress=served.ingress())
    await_nobody_listens(shared, port)


def health(stand: Stand, address: str, port: int) -> bytes:
    """Ask as a load balancer outside does; give the status line."""
    with client.tcp(stand.lab.outside, address, port) as asked:
        asked.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return client.read_all(asked).partition(b"\r\n")[0]
