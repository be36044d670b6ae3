"""Ports of the host lead to containers: every kind of client, both families, both back ends; real packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_bridge.netlink.connection import NETFILTER, Connection
from cni_bridge.netlink.message import attributes
from cni_bridge.portmap import conntrack
from tests.cni.chained import GATEWAY, HOST, NOT_AT_ALL, OUTSIDE, UdpEcho, connects, named, ports, udp_client

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.chained import Chain

pytestmark = pytest.mark.netns

BACKENDS = ("iptables", "nftables")
FAMILIES = (4, 6)
WEB = (8080, 80, "tcp")


def forwarding(backend: str, *mappings: tuple[object, ...], **keys: object) -> Json:
    return named("portmap", backend=backend, runtimeConfig=ports(*(mappings or (WEB,))), **keys)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_port_of_the_host_leads_to_the_container_from_everywhere(chain: Chain, backend: str, family: int) -> None:
    pod, other = chain.pod(), chain.pod("cid2")
    chain.add(forwarding(backend), pod)
    inside, host = pod.namespace, HOST[family]
    assert connects(chain.outside, host, 8080, inside, 80) == OUTSIDE[family]
    assert connects(chain.host, host, 8080, inside, 80) == host
    assert (
        connects(other.namespace, host, 8080, inside, 80) == (GATEWAY if backend == "iptables" else {family: other.address(family)})[family]
    )
    assert connects(inside, host, 8080, inside, 80) == GATEWAY[family]
    if family == 4:
        assert connects(chain.host, "127.0.0.1", 8080, inside, 80) == GATEWAY[4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_del_nothing_leads_there_and_nothing_of_the_container_is_left(chain: Chain, backend: str) -> None:
    pod, config = chain.pod(), forwarding(backend)
    chain.add(config, pod)
    chain.delete(config, pod)
    chain.delete(config, pod)
    assert connects(chain.outside, HOST[4], 8080, pod.namespace, 80) == ""
    assert "cid1" not in str(chain.rules("nat")) + str(chain.nft_rules())
    assert "CNI-DN-" not in str(chain.rules("nat"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mapping_with_an_address_of_the_host_holds_for_that_address_alone(chain: Chain, backend: str) -> None:
    chain.host.ip("addr add 192.0.2.2/24 dev out")
    pod = chain.pod()
    chain.add(forwarding(backend, (8080, 80, "tcp", "192.0.2.2"), (8081, 80, "tcp", "0.0.0.0"), (8082, 80, "tcp", "::")), pod)
    assert connects(chain.outside, "192.0.2.2", 8080, pod.namespace, 80) == OUTSIDE[4]
    assert connects(chain.outside, HOST[4], 8080, pod.namespace, 80) == ""
    assert connects(chain.outside, HOST[4], 8081, pod.namespace, 80) == OUTSIDE[4]
    assert connects(chain.outside, HOST[6], 8081, pod.namespace, 80) == ""
    assert connects(chain.outside, HOST[6], 8082, pod.namespace, 80) == OUTSIDE[6]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_for_another_machine_is_left_alone(chain: Chain, backend: str) -> None:
    pod, other = chain.pod(), chain.pod("cid2")
    chain.add(forwarding(backend), pod)
    assert connects(other.namespace, OUTSIDE[4], 8080, chain.outside, 8080) == other.address(4)


@pytest.mark.parametrize(("backend", "words"), [("iptables", ["!", "-s", "192.0.2.9"]), ("nftables", ["ip", "saddr", "!=", "192.0.2.9"])])
def test_conditions_limit_who_reaches_the_port_of_their_network_alone(chain: Chain, backend: str, words: list[str]) -> None:
    pod, other = chain.pod(), chain.pod("cid2")
    chain.add(forwarding(backend, conditionsV4=words), pod)
    chain.add({**forwarding(backend, (8081, 80, "tcp")), "name": "net2"}, other)
    assert connects(chain.outside, HOST[4], 8080, pod.namespace, 80) == ""
    assert connects(chain.outside, HOST[6], 8080, pod.namespace, 80) == OUTSIDE[6]
    assert connects(other.namespace, HOST[4], 8080, pod.namespace, 80) != ""
    assert connects(chain.outside, HOST[4], 8081, other.namespace, 80) == OUTSIDE[4]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_client_that_never_stops_sending_is_led_to_the_container_and_away_from_it_again(chain: Chain, backend: str, family: int) -> None:
    pod, next_pod, config = chain.pod(), chain.pod("cid2"), forwarding(backend, (5353, 53, "udp"))
    with udp_client(chain.outside, HOST[family], 5353) as client, UdpEcho(chain.host, 5353, family) as on_host:
        client.send(b"before")
        assert on_host.received() == OUTSIDE[family]
        chain.add(config, pod)
        with UdpEcho(pod.namespace, 53, family) as in_pod:
            client.send(b"with the container")
            assert in_pod.received() == OUTSIDE[family]
        chain.delete(config, pod)
        client.send(b"afterwards")
        assert on_host.received() == OUTSIDE[family]
        chain.add(config, pod)
        with UdpEcho(pod.namespace, 53, family) as in_pod:
            client.send(b"once more")
            assert in_pod.received() == OUTSIDE[family]
        chain.delete(config, pod)
        chain.add(config, next_pod)
        with UdpEcho(next_pod.namespace, 53, family) as in_pod:
            client.send(b"with the next container")
            assert in_pod.received() == OUTSIDE[family]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_flow_to_another_port_is_not_forgotten_and_one_to_the_container_itself_neither(chain: Chain, backend: str) -> None:
    pod, config = chain.pod(), forwarding(backend, (5353, 53, "udp"))
    with udp_client(chain.outside, HOST[4], 5354) as to_host, udp_client(chain.outside, pod.address(4), 53) as to_pod:
        to_host.send(b"one")
        to_pod.send(b"one")
        before = flows(chain)
        assert len(before) == 2
        chain.add(config, pod)
        assert flows(chain) == before
        chain.delete(config, pod)
        assert flows(chain) == before


def flows(chain: Chain) -> set[bytes]:
    """List the UDP flows that the host tracks, by their identities."""
    with chain.host.call(Connection, NETFILTER) as connection:
        payloads = connection.dump(conntrack.to_pod(bytes(4)).listing)
    return {attributes(payload, 4)[12] for payload in payloads}


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_ports_than_a_rule_can_name_all_lead_there(chain: Chain, backend: str) -> None:
    pod = chain.pod(subnets=("10.66.0.0/24",))
    chain.add(forwarding(backend, *[(8000 + place, 80, "tcp") for place in range(17)], (8000, 80, "udp")), pod)
    for port in (8000, 8014, 8015, 8016):
        assert connects(chain.outside, HOST[4], port, pod.namespace, 80) == OUTSIDE[4]
    assert connects(chain.outside, HOST[4], 8017, pod.namespace, 80, seconds=NOT_AT_ALL) == ""


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_snat_no_client_is_hidden(chain: Chain, backend: str) -> None:
    pod, other = chain.pod(), chain.pod("cid2")
    chain.add(forwarding(backend, snat=False), pod)
    assert connects(other.namespace, HOST[4], 8080, pod.namespace, 80) == other.address(4)
    assert "masquerad" not in (str(chain.rules("nat")) + str(chain.nft_rules())).lower()
    assert chain.host.read_sysctl("net.ipv4.conf.cni0.route_localnet") == "0"


def test_masq_all_hides_everybody(chain: Chain) -> None:
    pod = chain.pod()
    chain.add(forwarding("iptables", masqAll=True), pod)
    assert connects(chain.outside, HOST[4], 8080, pod.namespace, 80) == GATEWAY[4]
    assert connects(chain.outside, HOST[6], 8080, pod.namespace, 80) == GATEWAY[6]


def test_a_mark_of_ones_own_and_a_chain_of_somebody_else(chain: Chain) -> None:
    pod, other = chain.pod(), chain.pod("cid2")
    chain.add(forwarding("iptables", markMasqBit=31), pod)
    assert connects(pod.namespace, HOST[4], 8080, pod.namespace, 80) == GATEWAY[4]
    chain.host.run("iptables", "-t", "nat", "-N", "THEIR-MARK")
    chain.host.run("ip6tables", "-t", "nat", "-N", "THEIR-MARK")
    chain.add(forwarding("iptables", (8081, 80, "tcp"), externalSetMarkChain="THEIR-MARK"), other)
    assert any("-j THEIR-MARK" in rule and "8081" in rule for rule in chain.rules("nat"))
    assert any("0x80000000/0x80000000" in rule and "MASQUERADE" in rule for rule in chain.rules("nat"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_sctp_is_forwarded_by_rules_of_its_own(chain: Chain, backend: str) -> None:
    chain.add(forwarding(backend, (7000, 70, "SCTP")), chain.pod())
    wanted = {
        "iptables": "-p sctp -m sctp --dport 7000 -j DNAT --to-destination 10.66.0.2:70",
        "nftables": "sctp dport 7000 dnat to 10.66.0.2:70",
    }[backend]
    assert any(wanted in rule for rule in chain.rules("nat") + chain.nft_rules())


@pytest.mark.parametrize("backend", ["", *BACKENDS])
def test_the_previous_result_is_passed_on_whether_there_are_ports_or_not(chain: Chain, backend: str) -> None:
    pod = chain.pod()
    keys = {"backend": backend} if backend else {}
    nothing: Json = {}
    for runtime in (ports(WEB), nothing, ports()):
        said = chain.add(named("portmap", runtimeConfig=runtime, **keys), pod)
        assert {**said, "cniVersion": ""} == {**pod.result, "cniVersion": ""}
