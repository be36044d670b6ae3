"""CHECK, GC, STATUS, and DEL that knows little; killed at each step a DEL still leaves nothing."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import Refused
from tests.cni.chained import Pod, named

if TYPE_CHECKING:
    from tests.cni.bridge.node import Answer, Json
    from tests.cni.chained import Chain

pytestmark = pytest.mark.netns

CONFIG = named("firewall")
OFFENCES = {
    "the way in": ("iptables -D FORWARD 1", '-A FORWARD -m comment --comment "CNI firewall plugin rules"'),
    "the administrator's chain": ("ip6tables -D CNI-FORWARD 1", "-j CNI-ADMIN"),
    "the answers": ("iptables -D CNI-FORWARD 2", "-d 10.66.0.2/32 -m conntrack"),
    "what it sends": ("ip6tables -D CNI-FORWARD 3", "-s fd66::2/128 -j ACCEPT"),
}


def traces(chain: Chain, pod: Pod) -> list[str]:
    """List whatever mentions the container or its addresses."""
    marks = (f"id: {pod.container}", pod.address(4), pod.address(6))
    return [rule for rule in chain.rules("filter") if any(mark in rule for mark in marks)]


@pytest.mark.parametrize("offence", OFFENCES)
def test_check_finds_what_is_missing(chain: Chain, offence: str) -> None:
    pod = chain.pod()
    chain.add(CONFIG, pod)
    chain.run("CHECK", CONFIG, pod).result()
    command, words = OFFENCES[offence]
    chain.host.run("sh", "-c", command)
    with pytest.raises(Refused) as refused:
        chain.run("CHECK", CONFIG, pod).result()
    assert refused.value.code == 104
    assert words in refused.value.said


def test_check_finds_a_policy_that_is_gone(chain: Chain) -> None:
    pod, config = chain.pod(), named("firewall", ingressPolicy="same-bridge")
    chain.add(config, pod)
    chain.run("CHECK", config, pod).result()
    chain.host.run("iptables", "-F", "CNI-ISOLATION-STAGE-2")
    with pytest.raises(Refused, match="CNI-ISOLATION-STAGE-2 -o cni0"):
        chain.run("CHECK", config, pod).result()


@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
def test_del_needs_neither_namespace_nor_previous_result(chain: Chain, netns: str) -> None:
    pod, other = chain.pod(), chain.pod("cid2")
    chain.add(CONFIG, pod)
    chain.add(CONFIG, other)
    chain.delete({**CONFIG, "prevResult": None}, pod, CNI_NETNS=netns)
    assert traces(chain, pod) == []
    chain.run("CHECK", CONFIG, other).result()


def test_a_late_del_leaves_the_rules_of_the_address_s_next_owner_alone(chain: Chain) -> None:
    first = chain.pod()
    second = Pod(first.namespace, "cid2", first.result)
    chain.add(CONFIG, first)
    chain.add(CONFIG, second)
    chain.delete(CONFIG, first)
    chain.run("CHECK", CONFIG, second).result()
    chain.delete(CONFIG, second)
    assert traces(chain, first) == []


def test_a_repeated_add_changes_nothing(chain: Chain) -> None:
    pod = chain.pod()
    chain.add(CONFIG, pod)
    before = chain.rules("filter")
    chain.add(CONFIG, pod)
    assert chain.rules("filter") == before


def test_gc_removes_what_is_stale_of_its_own_network_alone(chain: Chain) -> None:
    pods = [chain.pod(f"cid{place}") for place in (1, 2, 3)]
    for pod, network in zip(pods, ("net1", "net1", "net2"), strict=True):
        chain.add(named("firewall", name=network), pod)
    chain.run("GC", {**CONFIG, "cni.dev/valid-attachments": [{"containerID": "cid2", "ifname": "eth0"}]}).result()
    assert [bool(traces(chain, pod)) for pod in pods] == [False, True, True]
    with pytest.raises(Refused, match="valid-attachments"):
        chain.run("GC", CONFIG).result()
    chain.run("GC", {**CONFIG, "cni.dev/valid-attachments": []}).result()
    assert [bool(traces(chain, pod)) for pod in pods] == [False, False, True]


def test_status_tells_when_forward_does_not_lead_to_the_rules_any_more(chain: Chain) -> None:
    chain.run("STATUS", CONFIG).result()
    chain.add(CONFIG, chain.pod())
    chain.run("STATUS", CONFIG).result()
    chain.host.run("iptables", "-F", "FORWARD")
    with pytest.raises(Refused, match="FORWARD does not lead") as refused:
        chain.run("STATUS", CONFIG).result()
    assert refused.value.code == 51


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"backend": "firewalld"}, "firewalld"),
        ({"ingressPolicy": "closed"}, '"ingressPolicy" is "closed"'),
        ({"iptablesAdminChainName": "n" * 29}, '"iptablesAdminChainName" is "nnn'),
        ({"prevResult": None}, "missing prevResult"),
        ({"ingressPolicy": "isolated", "prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.66.0.2/24"}]}}, "needs an interface"),
    ],
)
def test_what_makes_no_sense_is_refused_with_key_and_value_and_changes_nothing(chain: Chain, keys: dict[str, object], words: str) -> None:
    pod, before = chain.pod(), chain.rules("filter")
    with pytest.raises(Refused) as refused:
        chain.add({**CONFIG, **keys}, pod)
    assert refused.value.code == 7
    assert words in refused.value.said
    assert chain.rules("filter") == before


def struck(chain: Chain, number: int, command: str, config: Json, pod: Pod) -> Answer:
    """Kill a verb in place of that step and see that DEL leaves nothing; give what the verb said when it had no such step."""
    if command == "DEL":
        chain.add(config, pod)
        assert traces(chain, pod)
    answer = chain.dying(number, command, config, pod)
    assert bool(answer.stderr) == (answer.code == 0) != (answer.code == -signal.SIGKILL)
    chain.delete({**config, "prevResult": None}, pod)
    assert traces(chain, pod) == []
    return answer


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_death_at_any_step_leaves_nothing_after_del(chain: Chain, command: str) -> None:
    pod = chain.pod()
    deaths = 0
    while not (answer := struck(chain, deaths, command, CONFIG, pod)).stderr:
        deaths += 1
    assert int(answer.stderr) == deaths == 4
    chain.add(CONFIG, pod)
    chain.run("CHECK", CONFIG, pod).result()


def test_many_at_once_make_the_shared_rules_once_and_lose_none_of_their_own(chain: Chain) -> None:
    pod = chain.pod()
    pods = [Pod(pod.namespace, f"cid{place}", {**pod.result, "ips": [{"address": f"10.66.0.{place}/24"}]}) for place in range(10, 26)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda one: chain.add(CONFIG, one), pods))
    rules = chain.rules("filter")
    assert len([rule for rule in rules if "-j CNI-FORWARD" in rule or "-j CNI-ADMIN" in rule]) == 2
    assert len([rule for rule in rules if "-j ACCEPT" in rule]) == 32
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda one: chain.delete(CONFIG, one), pods))
    assert [rule for rule in chain.rules("filter") if "10.66.0." in rule] == []
