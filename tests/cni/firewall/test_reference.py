"""Beside the reference plugins: the same rules but for the owners', and either removes what the other made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.chained import NEW, OLD, named, reference

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.chained import Chain

pytestmark = pytest.mark.netns

CASES: dict[str, Json] = {
    "plain": {},
    "an administrator's chain": {"iptablesAdminChainName": "MY-OWN"},
    "open": {"ingressPolicy": "open"},
    "same bridge": {"ingressPolicy": "same-bridge"},
    "isolated": {"ingressPolicy": "isolated"},
}
ONLY_NEW = ("same bridge", "isolated")
"""Release 1.1.1 knows no isolation within a bridge, and words the comments without it."""
RELEASES = [(release, case) for release in (OLD, NEW) for case in CASES if release == NEW or case not in ONLY_NEW]


def rules_of(chain: Chain) -> list[str]:
    """List the filter rules in their order, without the chain that tells whose addresses they are, which ours alone has."""
    return sorted((rule for rule in chain.rules("filter") if "CNI-FORWARD-OWNERS" not in rule), key=lambda rule: rule.split()[:3])


def config_of(case: str) -> Json:
    return {**named("firewall", backend="iptables", **CASES[case]), "cniVersion": "1.0.0"}


@pytest.mark.parametrize(("release", "case"), RELEASES)
def test_the_rules_are_the_same_and_go_as_completely(chain: Chain, release: str, case: str) -> None:
    theirs, pods, config = reference(release), [chain.pod("cid1"), chain.pod("cid2")], config_of(case)
    seen = []
    for plugins in (theirs, chain.plugins):
        results = [chain.add(config, pod, plugins) for pod in pods]
        both = rules_of(chain)
        chain.delete(config, pods[0], plugins)
        one = rules_of(chain)
        chain.delete(config, pods[1], plugins)
        seen.append(([{**said, "dns": {}} for said in results], both, one, rules_of(chain)))
        for program in ("iptables", "ip6tables"):
            chain.host.run("sh", "-c", f"{program} -F; {program} -X")
    assert seen[1] == seen[0]


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours ADD, theirs DEL", "theirs ADD, ours DEL"])
@pytest.mark.parametrize("release", [OLD, NEW])
def test_either_plugin_checks_and_removes_what_the_other_made(chain: Chain, release: str, ours_first: bool) -> None:  # noqa: FBT001 - the two orders are the cases
    theirs, pod, config = reference(release), chain.pod(), config_of("plain")
    first, second = (chain.plugins, theirs) if ours_first else (theirs, chain.plugins)
    chain.add(config, pod, first)
    chain.run("CHECK", config, pod, second).result()
    chain.delete(config, pod, second)
    assert not any(pod.address(family) in rule for family in (4, 6) for rule in rules_of(chain))
    chain.delete(config, pod, first)
    assert not any(pod.address(family) in rule for family in (4, 6) for rule in chain.rules("filter"))
