"""Beside the reference plugins: the same rules, and either removes what the other made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.chained import NEW, OLD, named, ports, reference

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.chained import Chain

pytestmark = pytest.mark.netns

WEB, DNS = (8080, 80, "tcp"), (5353, 53, "udp")
CASES: dict[str, Json] = {
    "one port": {"runtimeConfig": ports(WEB)},
    "two protocols": {"runtimeConfig": ports(WEB, DNS)},
    "sctp": {"runtimeConfig": ports((7000, 70, "sctp"))},
    "seventeen ports": {"runtimeConfig": ports(*[(8000 + place, 80, "tcp") for place in range(17)])},
    "any address of the host": {"runtimeConfig": ports((8080, 80, "tcp", ""), (5353, 53, "udp", ""))},
    "no snat": {"snat": False, "runtimeConfig": ports(WEB)},
    "a mark of its own": {"markMasqBit": 5, "runtimeConfig": ports(WEB)},
    "a long network name": {"name": "n" * 230, "runtimeConfig": ports(WEB)},
    "no ports": {"runtimeConfig": {}},
}
WITH_CONDITIONS: dict[str, dict[str, list[str]]] = {
    "iptables": {"conditionsV4": ["!", "-s", "192.0.2.77"], "conditionsV6": ["-s", "2001:db8::/32"]},
    "nftables": {"conditionsV4": ["ip", "saddr", "!=", "192.0.2.77"]},
}
IPTABLES_CASES: dict[str, Json] = {
    **CASES,
    "conditions": {**WITH_CONDITIONS["iptables"], "runtimeConfig": ports(WEB)},
    "masq all": {"masqAll": True, "runtimeConfig": ports(WEB)},
}
ONLY_NEW = ("masq all",)
RELEASES = [(release, case) for release in (OLD, NEW) for case in IPTABLES_CASES if release == NEW or case not in ONLY_NEW]


@pytest.mark.parametrize(("release", "case"), RELEASES)
def test_the_iptables_rules_are_the_same_and_go_as_completely(chain: Chain, release: str, case: str) -> None:
    theirs, pod, config = reference(release), chain.pod(), in_both_releases(case)
    seen = []
    for plugins in (theirs, chain.plugins):
        said = chain.add(config, pod, plugins)
        said.pop("dns", None)
        during, localnet = chain.rules("nat"), chain.host.read_sysctl("net.ipv4.conf.cni0.route_localnet")
        chain.delete(config, pod, plugins)
        seen.append((said, sorted(during), localnet, sorted(chain.rules("nat"))))
        for program in ("iptables", "ip6tables"):
            chain.host.run("sh", "-c", f"{program} -t nat -F; {program} -t nat -X")
        chain.host.sysctl({"net.ipv4.conf.cni0.route_localnet": 0})
    assert seen[1] == seen[0]


def in_both_releases(case: str) -> Json:
    """Give a case's configuration in a version that both releases speak."""
    return {**named("portmap", backend="iptables", **IPTABLES_CASES[case]), "cniVersion": "1.0.0"}


@pytest.mark.parametrize("case", ["one port", "two protocols", "sctp", "no snat", "a mark of its own", "no ports"])
def test_the_nftables_rules_are_the_same_but_for_the_owners_and_go_as_completely(chain: Chain, case: str) -> None:
    theirs, pod = reference(NEW), chain.pod()
    config = named("portmap", backend="nftables", **CASES[case])
    seen = []
    for plugins in (theirs, chain.plugins):
        chain.add(config, pod, plugins)
        during = rules_by_chain(chain)
        chain.delete(config, pod, plugins)
        seen.append((during, rules_by_chain(chain)))
        chain.host.run("sh", "-c", "nft delete table ip cni_hostport 2>/dev/null; nft delete table ip6 cni_hostport 2>/dev/null; true")
    assert seen[1] == seen[0]


def rules_by_chain(chain: Chain) -> dict[str, list[str]]:
    """Give the rules of each chain; the owners' chain and the table's comment, which one side alone has, are left out."""
    found: dict[str, list[str]] = {}
    table = name = ""
    for line in chain.nft_rules():
        if line.startswith("table "):
            table = line
        elif line.startswith("chain "):
            name = f"{table} {line}"
            found[name] = []
        elif name and not line.startswith("comment"):
            found[name].append(line)
    return {place: rules for place, rules in found.items() if "cni_bridge_owners" not in place}


def test_conditions_of_nftables_stand_in_the_networks_own_rules_and_not_in_the_shared_ones(chain: Chain) -> None:
    theirs, pod = reference(NEW), chain.pod()
    config = named("portmap", backend="nftables", **WITH_CONDITIONS["nftables"], runtimeConfig=ports(WEB))
    places = []
    for plugins in (theirs, chain.plugins):
        chain.add(config, pod, plugins)
        places.append({place.split()[-2] for place, rules in rules_by_chain(chain).items() if "192.0.2.77" in str(rules)})
        chain.delete(config, pod, plugins)
    assert places == [{"prerouting", "output"}, {"hostports"}]


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours ADD, theirs DEL", "theirs ADD, ours DEL"])
@pytest.mark.parametrize(("release", "backend"), [(OLD, "iptables"), (NEW, "iptables"), (NEW, "nftables")])
def test_either_plugin_checks_and_removes_what_the_other_made(chain: Chain, release: str, backend: str, ours_first: bool) -> None:  # noqa: FBT001 - the two orders are the cases
    theirs, pod = reference(release), chain.pod()
    config = {**named("portmap", backend=backend, runtimeConfig=ports(WEB, DNS)), "cniVersion": "1.0.0"}
    first, second = (chain.plugins, theirs) if ours_first else (theirs, chain.plugins)
    chain.add(config, pod, first)
    if release == NEW or not ours_first:  # CHECK of 1.1.1 looks for each family's rules in both
        chain.run("CHECK", config, pod, second).result()
    chain.delete(config, pod, second)
    left = str(chain.rules("nat")) + str({place: rules for place, rules in rules_by_chain(chain).items() if "cid1" in str(rules)})
    assert "cid1" not in left
    assert "CNI-DN-" not in left
    chain.delete(config, pod, first)
    assert "cid1" not in str(chain.nft_rules())
