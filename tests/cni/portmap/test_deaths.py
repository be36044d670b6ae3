"""Killed at each step of ADD and of DEL: a DEL afterwards leaves nothing of the container, and an ADD works again."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.cni.chained import HOST, OUTSIDE, connects, named, ports

if TYPE_CHECKING:
    from tests.cni.bridge.node import Answer, Json
    from tests.cni.chained import Chain, Pod

pytestmark = pytest.mark.netns


def config_of(backend: str) -> Json:
    return named("portmap", backend=backend, runtimeConfig=ports((8080, 80, "tcp"), (5353, 53, "udp")))


def traces(chain: Chain, pod: Pod) -> list[str]:
    """List whatever mentions the container or leads to it."""
    marks = (pod.container, pod.address(4), pod.address(6), "CNI-DN-")
    return [line for line in chain.rules("nat") + chain.nft_rules() if any(mark in line for mark in marks)]


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


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_death_at_any_step_leaves_nothing_after_del(chain: Chain, backend: str, command: str) -> None:
    pod, config = chain.pod(), config_of(backend)
    deaths = 0
    while not (answer := struck(chain, deaths, command, config, pod)).stderr:
        deaths += 1
    assert int(answer.stderr) == deaths >= 6
    chain.add(config, pod)
    assert connects(chain.outside, HOST[4], 8080, pod.namespace, 80) == OUTSIDE[4]


def test_an_add_that_fails_in_the_second_family_takes_the_first_back(chain: Chain) -> None:
    pod = chain.pod()
    answer = chain.run("ADD", {**config_of("iptables"), "conditionsV6": ["-s", "10.0.0.1"]}, pod)
    assert answer.code == 1
    assert "10.0.0.1" in answer.stdout
    assert traces(chain, pod) == []
    answer = chain.run("ADD", {**config_of("nftables"), "conditionsV6": ["nonsense"]}, pod)
    assert answer.code == 1
    assert "nonsense" in answer.stdout
    assert traces(chain, pod) == []
