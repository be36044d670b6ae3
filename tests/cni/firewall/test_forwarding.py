"""Where the host drops what it forwards, containers' packets pass and their answers too; real packets, both families."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.chained import HOST, NOT_AT_ALL, OUTSIDE, SOON, connects, named, ports

if TYPE_CHECKING:
    from tests.cni.chained import Chain, Pod
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns

FAMILIES = (4, 6)
BRIDGES = {"cni0": ("10.66.0.0/24", "fd66::/64"), "cni1": ("10.66.1.0/24", "fd66:1::/64")}

POLICIES = {"open": (True, True), "same-bridge": (False, True), "isolated": (False, False)}
"""Whether a container is reached from another bridge, and from its own."""


def drop_by_default(chain: Chain) -> None:
    for program in ("iptables", "ip6tables"):
        chain.host.run(program, "-P", "FORWARD", "DROP")


def reaches(chain: Chain, pod: Pod, family: int, seconds: float = SOON) -> bool:
    return connects(pod.namespace, OUTSIDE[family], 9000, chain.outside, 9000, seconds=seconds) == pod.address(family)


def is_reached(pod: Pod, client: Namespace, family: int, seconds: float = SOON) -> bool:
    return bool(connects(client, pod.address(family), 80, pod.namespace, 80, seconds=seconds))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_container_reaches_the_outside_with_the_plugin_and_not_without(chain: Chain, family: int) -> None:
    pod, other, config = chain.pod(), chain.pod("cid2"), named("firewall")
    for one in (pod, other):
        assert reaches(chain, one, family)
        assert is_reached(one, chain.outside, family)
    drop_by_default(chain)
    assert not reaches(chain, pod, family, NOT_AT_ALL)
    said = chain.add(config, pod)
    assert {**said, "cniVersion": ""} == {**pod.result, "cniVersion": ""}
    assert reaches(chain, pod, family)
    assert not reaches(chain, other, family, NOT_AT_ALL)
    assert not is_reached(pod, chain.outside, family, NOT_AT_ALL)
    chain.delete(config, pod)
    assert not reaches(chain, pod, family, NOT_AT_ALL)


def test_an_accept_in_a_table_of_its_own_would_not_do_and_that_is_why_it_is_iptables(chain: Chain) -> None:
    pod = chain.pod()
    assert reaches(chain, pod, 4)
    drop_by_default(chain)
    chain.host.nft("add table ip own\nadd chain ip own f { type filter hook forward priority -10; }\nadd rule ip own f accept")
    assert not reaches(chain, pod, 4, NOT_AT_ALL)
    chain.add(named("firewall"), pod)
    assert reaches(chain, pod, 4)


def test_it_comes_before_a_drop_that_is_there_already_and_the_administrator_before_it(chain: Chain) -> None:
    chain.host.run("iptables", "-A", "FORWARD", "-j", "DROP")
    pod = chain.pod()
    chain.add(named("firewall", iptablesAdminChainName="MY-OWN"), pod)
    assert reaches(chain, pod, 4)
    chain.host.run("iptables", "-A", "MY-OWN", "-d", OUTSIDE[4], "-j", "DROP")
    assert not reaches(chain, pod, 4, NOT_AT_ALL)


@pytest.mark.parametrize("family", FAMILIES)
def test_behind_portmap_the_ports_are_reached_although_the_host_drops(chain: Chain, family: int) -> None:
    drop_by_default(chain)
    for program in ("iptables", "ip6tables"):
        chain.host.run(program, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "DNAT", "-j", "ACCEPT")
    pod = chain.pod()
    result = chain.add(named("portmap", runtimeConfig=ports((8080, 80, "tcp"))), pod)
    chain.add(named("firewall", prevResult=result), pod)
    assert connects(chain.outside, HOST[family], 8080, pod.namespace, 80) == OUTSIDE[family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", POLICIES)
def test_an_ingress_policy_decides_who_reaches_a_container(chain: Chain, policy: str, family: int) -> None:
    other_bridge, same_bridge = POLICIES[policy]
    near, second = chain.pod("cid1"), chain.pod("cid2")
    far = chain.pod("cid3", "cni1", BRIDGES["cni1"])
    routed_between_ports(chain)
    for client in (far, second):
        assert is_reached(near, client.namespace, family)
    for pod in (near, second, far):
        chain.add(named("firewall", ingressPolicy=policy), pod)
        chain.run("CHECK", named("firewall", ingressPolicy=policy), pod).result()
    for client, wanted in ((far, other_bridge), (second, same_bridge)):
        assert is_reached(near, client.namespace, family, SOON if wanted else NOT_AT_ALL) == wanted
    assert reaches(chain, near, family)


def routed_between_ports(chain: Chain) -> None:
    """Let bridged packets pass FORWARD, as nodes with br_netfilter do."""
    chain.host.sysctl({"net.bridge.bridge-nf-call-iptables": 1, "net.bridge.bridge-nf-call-ip6tables": 1})
