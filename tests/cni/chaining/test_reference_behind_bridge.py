"""The reference's chained plugins behind our bridge: each finds in our result what it needs, and DEL goes through all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import interface
from tests.cni.chained import NEW, OLD, OUTSIDE, connects, named, ports, reference

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cni.bridge.node import Json
from tests.cni.chained import Chain, Pod

pytestmark = pytest.mark.netns

VERSION = {OLD: "1.0.0", NEW: "1.1.0"}
MAC = "02:00:5e:10:00:01"
RATE = 8_000_000


def configs(release: str) -> list[Json]:
    """Give the chain: what docs of the reference show behind bridge."""
    chain = [
        named("portmap", capabilities={"portMappings": True}, runtimeConfig=ports((8080, 80, "tcp"))),
        named("tuning", mac=MAC, mtu=1400, sysctl={"net.core.somaxconn": "500"}),
        named("firewall", backend="iptables"),
    ]
    return [{**config, "cniVersion": VERSION[release]} for config in chain]


def passed_through(chain: Chain, plugins: Path, pod: Pod, chained: list[Json]) -> Json:
    """ADD by each with what the one before said; give the last one's result."""
    result = {**pod.result, "cniVersion": chained[0]["cniVersion"]}
    for config in chained:
        result = chain.add({**config, "prevResult": result}, pod, plugins)
    return result


@pytest.mark.parametrize("release", [OLD, NEW])
def test_portmap_tuning_and_firewall_of_the_reference_work_behind_our_bridge(chain: Chain, release: str) -> None:
    plugins, chained = reference(release), configs(release)
    before = chain.rules("nat"), chain.rules("filter")
    pod = chain.pod()
    result = passed_through(chain, plugins, pod, chained)

    assert [one["name"] for one in result["interfaces"]] == [one["name"] for one in pod.result["interfaces"]]
    assert [ip["address"] for ip in result["ips"]] == [ip["address"] for ip in pod.result["ips"]]
    tuned = interface(pod.namespace, "eth0")
    assert (tuned["address"], tuned["mtu"]) == (MAC, 1400)
    assert pod.namespace.read_sysctl("net.core.somaxconn") == "500"
    assert connects(chain.outside, "192.0.2.1", 8080, pod.namespace, 80) == OUTSIDE[4]

    # portmap 1.1.1's CHECK looks for the rules of each family in the other one's table, whoever made the pod.
    for config in chained[release == OLD :]:
        chain.run("CHECK", {**config, "prevResult": result}, pod, plugins).result()
    for config in reversed(chained):
        chain.delete({**config, "prevResult": result}, pod, plugins)
    after = chain.rules("nat"), chain.rules("filter")
    assert not [line for rules in after for line in rules if pod.address(4) in line or pod.address(6) in line]
    assert all(set(earlier) <= set(later) for earlier, later in zip(before, after, strict=True))


@pytest.mark.parametrize("release", [OLD, NEW])
def test_bandwidth_of_the_reference_finds_the_hosts_end_of_our_pair(chain: Chain, release: str) -> None:
    pod = chain.pod()
    config = {**named("bandwidth", ingressRate=RATE, ingressBurst=RATE), "cniVersion": VERSION[release]}
    chain.add({**config, "prevResult": {**pod.result, "cniVersion": VERSION[release]}}, pod, reference(release))
    host_end = next(one["name"] for one in pod.result["interfaces"] if one["name"].startswith("veth"))
    assert "tbf" in chain.host.run("tc", "qdisc", "show", "dev", host_end)
    chain.host.run("ping", "-c1", "-W2", pod.address(4))
