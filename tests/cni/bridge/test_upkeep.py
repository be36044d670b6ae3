"""CHECK, STATUS and GC of bridge, masquerading, the MAC check, and pods whose every packet passes the node."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import Refused, addresses, listed, routes

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json, Node
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns

V4, V6 = "10.61.0.0/24", "fd61::/64"
OFFENDED = {
    "the container's address": ("pod", "addr del 10.61.0.2/24 dev eth0", "address 10.61.0.2/24 is missing on eth0"),
    "the container's link": ("pod", "link del eth0", "the host's end of eth0 is missing"),
    "the container's state": ("pod", "link set eth0 down", "eth0 is down"),
    "the container's mac": ("pod", "link set eth0 address 02:00:00:00:00:09", "eth0 has the MAC address 02:00:00:00:00:09"),
    "a route": ("pod", "route del default", "route 0.0.0.0/0 is missing in the container"),
    "the gateway": ("host", "addr del 10.61.0.1/24 dev cni0", "gateway 10.61.0.1 is missing on cni0"),
    "the bridge's state": ("host", "link set cni0 down", 'bridge "cni0" is down'),
    "the bridge's mac": ("host", "link set cni0 address 02:00:00:00:00:09", 'bridge "cni0" has the MAC address'),
    "the port": ("host", "link set {port} nomaster", 'is not a port of "cni0"'),
    "hairpin": ("host", "link set {port} type bridge_slave hairpin off", "hairpin mode of veth"),
    "isolation": ("host", "link set {port} type bridge_slave isolated off", "is not isolated"),
}


def watched(node: Node) -> Json:
    return node.config(V4, isDefaultGateway=True, ipMasq=True, hairpinMode=True, portIsolation=True, macspoofchk=True)


@pytest.mark.parametrize("offence", OFFENDED)
def test_check_finds_what_has_changed(node: Node, offence: str) -> None:
    config, pod = watched(node), node.pod()
    result = node.add(config, pod)
    node.check(config, result, pod)
    where, command, words = OFFENDED[offence]
    (node.host if where == "host" else pod).ip(command.format(port=result["interfaces"][1]["name"]))
    with pytest.raises(Refused, match=words) as refused:
        node.check(config, result, pod)
    assert refused.value.code == 104


@pytest.mark.parametrize("table", ["inet", "netdev"])
def test_check_finds_missing_rules(node: Node, table: str) -> None:
    config, pod = watched(node), node.pod()
    result = node.add(config, pod)
    node.host.run("nft", "delete", "table", table, "cni_bridge")
    with pytest.raises(Refused, match=r"no rule masquerades 10\.61\.0\.2|are not checked"):
        node.check(config, result, pod)


def test_check_finds_forwarding_off_and_a_lost_lease(node: Node) -> None:
    config, pod = node.config(V4, isDefaultGateway=True), node.pod()
    result = node.add(config, pod)
    node.host.sysctl({"net.ipv4.ip_forward": 0})
    with pytest.raises(Refused, match="forwarding is off"):
        node.check(config, result, pod)
    node.host.sysctl({"net.ipv4.ip_forward": 1})
    (node.store / "net1" / "10.61.0.2").unlink()
    with pytest.raises(Refused, match="Failed to find address"):
        node.check(config, result, pod)


def test_check_takes_the_word_of_later_plugins(node: Node) -> None:
    config, pod = node.config(V4, isDefaultGateway=True), node.pod()
    result = node.add(config, pod)
    pod.ip("link set eth0 address 02:00:00:00:00:09")
    result["interfaces"][2]["mac"] = "02:00:00:00:00:09"
    node.check(config, result, pod)


def test_check_of_layer_2_needs_no_ipam(node: Node) -> None:
    config, pod = node.config(), node.pod()
    node.check(config, node.add(config, pod), pod)


@pytest.mark.parametrize("backend", ["", "nftables", "iptables"])
def test_what_leaves_the_network_is_masqueraded_and_nothing_else(node: Node, backend: str) -> None:
    config, pod = node.config(V4, V6, isDefaultGateway=True, ipMasq=True, ipMasqBackend=backend), node.pod()
    outside = node.pod()
    node.host.ip(f"link add out type veth peer name in netns {outside.name}", "link set out up")
    node.host.ip("addr add 192.0.2.1/24 dev out", "addr add 2001:db8::1/64 dev out nodad")
    outside.ip("link set in up", "addr add 192.0.2.9/24 dev in", "addr add 2001:db8::9/64 dev in nodad")
    node.add(config, pod)
    for target, seen in (("192.0.2.9", "192.0.2.1"), ("2001:db8::9", "2001:db8::1"), ("10.61.0.1", "10.61.0.2"), ("fd61::1", "fd61::2")):
        assert source(pod, node.host if "61" in target else outside, target) == seen
    result = node.config(V4, V6, isDefaultGateway=True, ipMasq=True, ipMasqBackend=backend)
    node.delete(result, pod)


def source(pod: Namespace, listener: Namespace, target: str) -> str:
    """Connect from the pod; give the address that the other side sees."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with listener.call(socket.socket, family) as server, pod.call(socket.socket, family) as client:
        server.bind((target, 7000))
        server.listen()
        server.settimeout(5)
        client.settimeout(5)
        client.connect((target, 7000))
        accepted, address = server.accept()
        accepted.close()
        return str(address[0])


def test_masquerading_is_one_rule_however_many_pods_there_are(node: Node) -> None:
    config = node.config(V4, isDefaultGateway=True, ipMasq=True)
    for place in range(3):
        node.add(config, node.pod(), CNI_CONTAINERID=f"cid{place}")
    assert node.rules().count("masquerade") == 1


def test_frames_from_a_foreign_mac_are_dropped(node: Node) -> None:
    config, pod = node.config(V4, isGateway=True, macspoofchk=True), node.pod()
    node.add(config, pod)
    pod.run("ping", "-c1", "-W2", "10.61.0.1")
    pod.ip("link set eth0 address 02:00:00:00:00:09")
    node.host.ip("neigh flush all")
    with pytest.raises(AssertionError, match="ping"):
        pod.run("ping", "-c1", "-W1", "10.61.0.1")


def test_packets_between_pods_with_a_hosts_prefix_pass_the_node(node: Node) -> None:
    config = node.config(V4, V6, isDefaultGateway=True, podPrefix="host", cniVersion="1.1.0")
    first, second = node.pod(), node.pod()
    result = node.add(config, first)
    node.add(config, second, CNI_CONTAINERID="cid2")
    assert [ip["address"] for ip in result["ips"]] == ["10.61.0.2/32", "fd61::2/128"]
    assert addresses(first, "eth0") == {("10.61.0.2", 32, ""), ("fd61::2", 128, "")}
    assert {"10.61.0.1 dev eth0 scope link", "default via 10.61.0.1 dev eth0"} <= routes(first)
    assert {"10.61.0.2 dev cni0 proto 109 scope link", "10.61.0.3 dev cni0 proto 109 scope link"} <= routes(node.host)
    for target in ("10.61.0.3", "fd61::3"):
        assert first.run("ping", "-c20", "-i0.01", "-W2", target).count("ttl=63") == 20
    for family in ("ipv4", "ipv6"):
        assert [first.read_sysctl(f"net.{family}.conf.{name}.accept_redirects") for name in ("all", "eth0")] == ["0", "0"]
    assert "redirect" not in first.run("ip", "route", "show", "cache") + first.run("ip", "-6", "route", "show", "cache")
    node.check(config, result, first)
    node.host.ip("route del 10.61.0.2/32 dev cni0")
    with pytest.raises(Refused, match=r"the host has no route to 10\.61\.0\.2"):
        node.check(config, result, first)


def test_a_vanished_pods_host_routes_go_with_its_del_alone(node: Node) -> None:
    config, pod = node.config(V4, V6, isDefaultGateway=True, podPrefix="host"), node.pod()
    node.add(config, pod)
    node.host.run("ip", "netns", "del", pod.name)
    node._namespaces._made.remove(pod)
    node.delete(config)
    assert not [line for line in routes(node.host) if "proto 109" in line]


def test_status_is_content_before_and_after_the_first_pod(node: Node) -> None:
    config = node.config(V4, isGateway=True, cniVersion="1.1.0")
    assert node.run("STATUS", config).result() == {}
    node.add(config, node.pod())
    assert node.run("STATUS", config).result() == {}


def test_status_tells_an_exhausted_pool_from_a_lost_gateway(node: Node) -> None:
    config = node.config("10.61.0.0/30", isGateway=True, cniVersion="1.1.0")
    node.add(config, node.pod())
    with pytest.raises(Refused, match="no IP addresses available") as refused:
        node.run("STATUS", config).result()
    assert refused.value.code == 50
    node.host.ip("addr flush dev cni0")
    with pytest.raises(Refused, match="has lost its address") as refused:
        node.run("STATUS", config).result()
    assert refused.value.code == 51


def test_gc_removes_what_is_not_in_the_list_and_keeps_the_rest(node: Node) -> None:
    keys = {"ipMasqBackend": "nftables", "macspoofchk": True, "podPrefix": "host", "ipMasq": True, "isDefaultGateway": True}
    config = node.config(V4, V6, cniVersion="1.1.0", **keys)
    kept, stale = node.pod(), node.pod()
    other = {**config, "name": "net2", "ipam": {"type": "host-local", "dataDir": str(node.store), "ranges": [[{"subnet": "10.70.0.0/24"}]]}}
    other["forceAddress"] = False
    node.add(config, kept)
    before = (node.links(), node.leases(), node.rules(), routes(node.host))
    node.add(config, stale, CNI_CONTAINERID="stale")
    node.run("GC", {**config, "cni.dev/valid-attachments": [{"containerID": "cid1", "ifname": "eth0"}]}).result()
    assert (node.links(), node.leases(), node.rules(), routes(node.host)) == before
    assert [one["ifname"] for one in listed(stale, "link")] == ["lo"]


def test_gc_with_an_empty_list_removes_the_networks_rule_too_and_of_other_networks_nothing(node: Node) -> None:
    config = node.config(V4, isGateway=True, ipMasq=True, cniVersion="1.1.0")
    other = {**node.config("10.70.0.0/24", isGateway=True, ipMasq=True, bridge="cni1", cniVersion="1.1.0"), "name": "net2"}
    node.add(other, node.pod())
    before = (node.links(), node.rules())
    node.add(config, node.pod())
    node.host.ip("link add foreign type veth peer name foreign2")
    node.run("GC", {**config, "cni.dev/valid-attachments": []}).result()
    node.host.ip("link del foreign")
    assert node.links() == sorted([*before[0], "cni0"])
    assert node.rules() == before[1]


def test_gc_without_a_list_removes_nothing(node: Node) -> None:
    config = node.config(V4, cniVersion="1.1.0")
    node.add(config, node.pod())
    before = (node.links(), node.leases())
    with pytest.raises(Refused) as refused:
        node.run("GC", config).result()
    assert refused.value.code == 7
    assert (node.links(), node.leases()) == before
