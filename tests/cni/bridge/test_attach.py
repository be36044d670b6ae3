"""ADD and DEL of bridge where no other plugin is the measure: our own promises, failures, leftovers."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import Refused, addresses, interface, listed, reference, routes

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json, Node
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns

V4, V6 = "10.61.0.0/24", "fd61::/64"


def port(node: Node) -> Json:
    (found,) = listed(node.host, "link", "show", "master", "cni0")
    return found


def ping(namespace: Namespace, address: str) -> None:
    namespace.run("ping", "-c1", "-W2", address)


def test_pods_reach_each_other_and_the_host_in_both_families_at_once(node: Node) -> None:
    config = node.config(V4, V6, isDefaultGateway=True)
    first, second = node.pod(), node.pod()
    node.add(config, first)
    node.add(config, second, CNI_CONTAINERID="cid2")
    for address in ("10.61.0.1", "fd61::1", "10.61.0.3", "fd61::3"):
        ping(first, address)
    for address in ("10.61.0.2", "fd61::2"):
        ping(node.host, address)


def test_an_ipv6_address_is_usable_when_add_returns(node: Node) -> None:
    config, pod = node.config(V6, isDefaultGateway=True), node.pod()
    node.add(config, pod)
    for namespace, name in ((pod, "eth0"), (node.host, "cni0")):
        (found,) = [one for one in interface(namespace, name)["addr_info"] if one["scope"] == "global"]
        assert not found.get("tentative")
    # With a link-local address that is still checked the node could not ask for its pods' neighbours: 2 s without an answer.
    assert not any(one.get("tentative") for one in interface(node.host, "cni0")["addr_info"])
    assert pod.read_sysctl("net.ipv6.conf.eth0.keep_addr_on_down") == "1"
    assert pod.read_sysctl("net.ipv6.conf.eth0.accept_ra") == "0"


def test_duplicate_address_detection_is_waited_for_when_asked_for(node: Node) -> None:
    config, pod = node.config(V6, isDefaultGateway=True, enabledad=True), node.pod()
    node.add(config, pod)
    assert not any(one.get("tentative") for one in interface(pod, "eth0")["addr_info"])
    assert pod.read_sysctl("net.ipv6.conf.eth0.accept_dad") == "1"


def test_an_address_that_another_one_has_is_detected_and_everything_undone(node: Node) -> None:
    config, pod, other = node.config(V6, isDefaultGateway=True, enabledad=True), node.pod(), node.pod()
    node.add({**config, "ipam": {}}, other, CNI_CONTAINERID="cid2")
    other.ip("addr add fd61::2/64 dev eth0 nodad")
    with pytest.raises(Refused, match="fd61::2 is in use") as refused:
        node.add(config, pod)
    assert refused.value.code == 105
    assert (node.leases(), len(node.links())) == (set(), 2)


def test_bridge_and_pods_have_macs_of_their_own_that_nothing_changes(node: Node) -> None:
    pod = node.pod()
    result = node.add(node.config(V4, isGateway=True), pod)
    before = interface(node.host, "cni0")["address"]
    node.host.ip("link add low address 00:00:00:00:00:01 type veth peer name high", "link set low master cni0")
    assert interface(node.host, "cni0")["address"] == before == result["interfaces"][0]["mac"]
    for name in ("cni0", result["interfaces"][1]["name"]):
        kind = node.host.run("ip", "netns", "exec", node.host.name, "cat", f"/sys/class/net/{name}/addr_assign_type")
        assert kind.strip() == "3"


def test_mtu_goes_to_all_three_interfaces_and_into_the_result_of_the_newest_version(node: Node) -> None:
    pod = node.pod()
    result = node.add(node.config(V4, cniVersion="1.1.0", mtu=1300), pod)
    assert [one["mtu"] for one in result["interfaces"]] == [1300, 1300, 1300]
    assert [interface(node.host, "cni0")["mtu"], port(node)["mtu"], interface(pod, "eth0")["mtu"]] == [1300, 1300, 1300]


def test_what_a_route_says_beyond_its_gateway_is_applied_and_reported(node: Node) -> None:
    said = [
        {"dst": "10.99.0.0/16", "mtu": 1400, "advmss": 1360, "priority": 7},
        {"dst": "10.98.0.0/16", "gw": "10.61.0.9", "table": 1000},
        {"dst": "10.97.0.1/32", "scope": 253},
    ]
    pod = node.pod()
    result = node.add(node.config(V4, isGateway=True, cniVersion="1.1.0", ipam={"routes": said}), pod)
    assert result["routes"] == said
    assert "10.99.0.0/16 via 10.61.0.1 dev eth0 metric 7 mtu 1400 advmss 1360" in routes(pod)
    assert "10.97.0.1 dev eth0 scope link" in routes(pod)
    assert pod.run("ip", "route", "show", "table", "1000").strip() == "10.98.0.0/16 via 10.61.0.9 dev eth0"


def test_a_default_route_without_gateway_is_not_doubled(node: Node) -> None:
    pod = node.pod()
    result = node.add(node.config(V4, V6, isDefaultGateway=True, ipam={"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}), pod)
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.61.0.1"}, {"dst": "::/0", "gw": "fd61::1"}]
    assert len([line for line in routes(pod) if line.startswith("default")]) == 2


def test_hairpin_and_isolation_are_settings_of_the_port(node: Node) -> None:
    pods = [node.pod() for _ in range(2)]
    config = node.config(V4, isGateway=True, hairpinMode=True, portIsolation=True)
    for place, pod in enumerate(pods):
        node.add(config, pod, CNI_CONTAINERID=f"cid{place}")
    ports = [one["linkinfo"]["info_slave_data"] for one in listed(node.host, "link", "show", "master", "cni0")]
    assert [(one["hairpin"], one["isolated"]) for one in ports] == [(True, True)] * 2
    ping(pods[0], "10.61.0.1")
    with pytest.raises(AssertionError, match="ping"):
        ping(pods[0], "10.61.0.3")


def test_layer_2_alone_is_a_port_without_addresses(node: Node) -> None:
    pod = node.pod()
    result = node.add(node.config(), pod)
    assert [one["name"] for one in result["interfaces"]][::2] == ["cni0", "eth0"]
    assert "ips" not in result
    assert (addresses(pod, "eth0"), interface(pod, "eth0")["operstate"]) == (set(), "UP")


def test_the_containers_interface_can_be_left_down(node: Node) -> None:
    pod = node.pod()
    node.add(node.config(disableContainerInterface=True), pod)
    assert "UP" not in interface(pod, "eth0")["flags"]


def test_a_gateway_that_another_address_blocks_is_refused_or_replaced_as_asked(node: Node) -> None:
    node.host.ip("link add cni0 type bridge", "addr add 10.50.0.1/24 dev cni0")
    pod = node.pod()
    words = r'"cni0" already has an IP address different from 10\.61\.0\.1/24; it has 10\.50\.0\.1/24'
    with pytest.raises(Refused, match=words) as refused:
        node.add(node.config(V4, isGateway=True), pod)
    assert (refused.value.code, node.leases(), node.links()) == (105, set(), ["cni0"])
    node.add(node.config(V4, isGateway=True, forceAddress=True), pod)
    assert addresses(node.host, "cni0") == {("10.61.0.1", 24, "10.61.0.255")}


def test_two_ranges_of_one_family_have_two_gateways(node: Node) -> None:
    pod = node.pod()
    node.add(node.config(V4, "10.62.0.0/24", isGateway=True), pod)
    assert {one[0] for one in addresses(node.host, "cni0")} == {"10.61.0.1", "10.62.0.1"}
    assert {one[0] for one in addresses(pod, "eth0")} == {"10.61.0.2", "10.62.0.2"}


def test_a_name_that_is_no_bridges_is_refused(node: Node) -> None:
    node.host.ip("link add cni0 type veth peer name other")
    with pytest.raises(Refused, match='"cni0" already exists but is not a bridge') as refused:
        node.add(node.config(V4), node.pod())
    assert (refused.value.code, node.leases(), node.links()) == (105, set(), ["cni0", "other"])


def test_a_taken_interface_name_is_refused_and_what_has_it_stays(node: Node) -> None:
    pod = node.pod()
    pod.ip("link add eth0 type bridge")
    with pytest.raises(Refused, match=r'container veth name \("eth0"\) peer provided \("veth[0-9a-f]{8}"\) already exists') as refused:
        node.add(node.config(V4), pod)
    assert (refused.value.code, node.leases(), node.links()) == (105, set(), ["cni0"])
    assert interface(pod, "eth0")["linkinfo"]["info_kind"] == "bridge"


def test_an_exhausted_pool_leaves_no_trace_at_all(node: Node) -> None:
    config = node.config("10.61.0.0/30", isGateway=True, ipMasq=True)
    node.add(config, node.pod())
    node.delete(config, node.pods[0])
    before = (node.links(), node.rules())
    node.add(config, node.pods[0])
    pod = node.pod()
    with pytest.raises(Refused) as refused:
        node.add(config, pod, CNI_CONTAINERID="cid2")
    assert refused.value.code == 101
    assert [one["ifname"] for one in listed(pod, "link")] == ["lo"]
    node.delete(config, node.pods[0])
    assert (node.links(), node.rules()) == before


@pytest.mark.parametrize(
    "keys", [{"ipMasqBackend": "nftables"}, {"ipMasqBackend": "iptables"}, {"macspoofchk": True}, {"podPrefix": "host"}]
)
def test_a_step_that_fails_late_undoes_all_before_it(node: Node, keys: Json) -> None:
    """The container refuses the last route: its gateway is nowhere."""
    bad = node.config(V4, isGateway=True, ipMasq=True, ipam={"routes": [{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}]}, **keys)
    good, pod = node.config(V4, isGateway=True, ipMasq=True, **keys), node.pod()
    node.add(good, node.pod(), CNI_CONTAINERID="other")
    before = (node.links(), node.leases(), node.rules(), routes(node.host))
    with pytest.raises(Refused, match=r"add route 10\.9\.0\.0/16: Nexthop has invalid gateway"):
        node.add(bad, pod)
    assert (node.links(), node.leases(), node.rules(), routes(node.host)) == before
    assert [one["ifname"] for one in listed(pod, "link")] == ["lo"]


def test_vlans_are_refused_in_words_where_the_kernel_has_none_and_work_where_it_has(node: Node) -> None:
    pod = node.pod()
    config = node.config(V4, vlan=100, vlanTrunk=[{"minID": 200, "maxID": 210}, {"id": 220}])
    try:
        node.add(config, pod)
    except Refused as refused:
        assert "create bridge cni0: " in refused.said  # noqa: PT017 - which of the two it is depends on the kernel
        assert (node.leases(), node.links()) == (set(), [])
        return
    (vlans,) = json.loads(node.host.run("bridge", "-j", "vlan", "show", "dev", port(node)["ifname"]))
    members = {(one["vlan"], one.get("vlanEnd"), *one.get("flags", [])) for one in vlans["vlans"]}
    assert members == {(100, None, "PVID", "Egress Untagged"), (200, 210), (220, None)}


@pytest.mark.parametrize("how", ["with its namespace", "without one", "after it vanished"])
@pytest.mark.parametrize("backend", ["", "nftables", "iptables"])
def test_del_cleans_everything_however_little_it_is_told(node: Node, how: str, backend: str) -> None:
    config = node.config(V4, V6, isDefaultGateway=True, ipMasq=True, ipMasqBackend=backend, macspoofchk=True, podPrefix="host")
    other, pod = node.pod(), node.pod()
    node.add(config, other, CNI_CONTAINERID="other")
    before = (node.links(), node.leases(), node.rules(), routes(node.host))
    node.add(config, pod)
    assert (node.links(), node.leases(), node.rules(), routes(node.host)) != before
    if how == "after it vanished":
        pod.ip("link del eth0")
    node.delete(config, None if how == "without one" else pod)
    assert (node.links(), node.leases(), node.rules(), routes(node.host)) == before
    node.delete(config, pod)
    node.delete(config, None)
    assert (node.links(), node.leases(), node.rules(), routes(node.host)) == before


def test_del_of_the_reference_plugins_attachment_without_a_namespace_goes_by_the_result(node: Node) -> None:
    theirs = reference()
    if theirs is None:
        pytest.skip("needs Debian's containernetworking-plugins")
    ours, node.plugins = node.plugins, theirs
    config, pod = node.config(V4, isGateway=True), node.pod()
    result = node.add(config, pod)
    node.plugins = ours
    node.delete({**config, "prevResult": result})
    assert (node.links(), node.leases()) == (["cni0"], set())


def test_another_ipam_plugin_is_executed(node: Node) -> None:
    theirs = reference()
    if theirs is None:
        pytest.skip("needs Debian's containernetworking-plugins")
    shutil.copy(theirs / "static", node.plugins / "static")
    config, pod = node.config(isDefaultGateway=True), node.pod()
    config["ipam"] = {"type": "static", "addresses": [{"address": "10.61.0.7/24", "gateway": "10.61.0.1"}]}
    assert node.add(config, pod)["ips"] == [{"interface": 2, "address": "10.61.0.7/24", "gateway": "10.61.0.1"}]
    ping(pod, "10.61.0.1")
    node.delete(config, pod)
    assert node.links() == ["cni0"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"vlan": 4095}, r"invalid VLAN ID 4095"),
        ({"hairpinMode": True, "promiscMode": True}, "cannot set hairpin mode and promiscuous mode at the same time"),
        ({"ipMasqBackend": "pf"}, '"ipMasqBackend" is "pf"'),
        ({"mtu": -1}, '"mtu" is -1'),
        ({"bridge": "a name with spaces"}, '"bridge" is "a name with spaces"'),
        ({"disableContainerInterface": True}, "cannot use IPAM when DisableContainerInterface flag is set"),
        ({"podPrefix": "host"}, '"podPrefix" is "host": that needs "isGateway"'),
        ({"podPrefix": "pod", "isGateway": True}, '"podPrefix" is "pod"'),
        ({"vlanTrunk": [{"minID": 3}]}, r'"vlanTrunk\[0\].maxID" is missing'),
        ({"vlanTrunk": [{"maxID": 3}]}, r'"vlanTrunk\[0\].minID" is missing'),
        ({"vlanTrunk": [{"id": 0}]}, r'"vlanTrunk\[0\].id" is 0'),
        ({"vlanTrunk": [{"minID": 3, "maxID": 2}]}, "greater than maxID"),
        ({"args": {"cni": {"mac": "02:00"}}}, '"args.cni.mac" is "02:00"'),
        ({"runtimeConfig": {"mac": "01:00:00:00:00:01"}}, '"runtimeConfig.mac" is "01:00:00:00:00:01"'),
        ({"bridge": "thirteenchars", "vlan": 100, "isGateway": True}, '"thirteenchars.100"'),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_with_key_and_value(node: Node, keys: Json, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        node.add(node.config(V4, **keys), node.pod())
    assert (refused.value.code, node.leases(), node.links()) == (7, set(), [])


def test_a_namespace_that_is_none_is_refused(node: Node) -> None:
    for path in ("/etc/passwd", "/run/netns/nowhere-at-all", "/proc/self/ns/mnt"):
        answer = node.run("ADD", node.config(V4), None, CNI_NETNS=path)
        with pytest.raises(Refused) as refused:
            answer.result()
        assert refused.value.code == 8
    assert (node.leases(), node.links()) == (set(), [])


def test_waiting_for_the_port_costs_no_poll(node: Node) -> None:
    """The reference plugin polls 50 ms later when the port, or an IPv6 address, is not ready at once."""
    config, pod = node.config(V4, V6, isDefaultGateway=True), node.pod()
    node.add(config, pod)
    node.delete(config, pod)
    spans = []
    for _ in range(10):
        begun = time.monotonic()
        node.add(config, pod)
        spans.append(time.monotonic() - begun)
        node.delete(config, pod)
    assert sorted(spans)[5] < 0.25


def test_many_at_once_on_a_bridge_that_is_not_there_yet_get_all_they_need_and_once(node: Node) -> None:
    config = node.config(V4, V6, isDefaultGateway=True, ipMasq=True, macspoofchk=True, podPrefix="host")
    pods = [node.pod() for _ in range(16)]
    names = [f"cid{place}" for place in range(len(pods))]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda pod, name: node.add(config, pod, CNI_CONTAINERID=name), pods, names))
    assert len({ip["address"] for result in results for ip in result["ips"]}) == 2 * len(pods)
    assert (node.rules().count("masquerade"), node.rules().count("macspoofchk")) == (2, len(pods))
    assert len({result["interfaces"][0]["mac"] for result in results}) == 1
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda pod, name: node.delete(config, pod, CNI_CONTAINERID=name), pods, names))
    assert (node.links(), node.leases(), node.rules().count("macspoofchk")) == (["cni0"], set(), 0)
