"""One plugin's ADD, the other's CHECK and DEL: an upgrade, and the way back, with pods running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.cni.bridge.node import Refused, listed
from tests.cni.matrix.cases import DUAL, NEW, OLD
from tests.cni.matrix.conftest import OURS, plugins_of

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.matrix.conftest import Bench

pytestmark = pytest.mark.netns

USES: Final[dict[str, tuple[tuple[str, ...], Json]]] = {
    "plain": ((OLD, NEW), {"isDefaultGateway": True, "hairpinMode": True}),
    "iptables": ((OLD, NEW), {"isGateway": True, "ipMasq": True, "ipMasqBackend": "iptables"}),
    "nftables": ((NEW,), {"isGateway": True, "ipMasq": True, "ipMasqBackend": "nftables"}),
}


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours ADD", "theirs ADD"])
@pytest.mark.parametrize(("use", "release"), [(use, release) for use, (releases, _) in USES.items() for release in releases])
def test_either_plugin_checks_and_removes_what_the_other_made(bench: Bench, use: str, release: str, *, ours_first: bool) -> None:
    node, pod = bench.node(OURS)
    ours, theirs = node.plugins, plugins_of(release)
    config = node.config(*DUAL, **USES[use][1])
    node.plugins = ours if ours_first else theirs
    result = node.add(config, pod)
    assert len(node.leases()) == 2
    node.plugins = theirs if ours_first else ours
    node.check(config, result, pod)
    with pytest.raises(Refused):
        node.add(config, pod)
    assert (len(node.leases()), len(node.links())) == (2, 2)
    node.delete({**config, "prevResult": result}, pod)
    assert (node.links(), node.leases(), [link["ifname"] for link in listed(pod, "link")]) == (["cni0"], set(), ["lo"])
    assert not [line for line in node.rules().splitlines() if "CNI-" in line or "net: net1" in line]


@pytest.mark.parametrize("release", [OLD, NEW])
@pytest.mark.parametrize("use", ["plain", "iptables"])
def test_ours_removes_what_theirs_made_and_a_vanished_namespace_left(bench: Bench, use: str, release: str) -> None:
    """Theirs would leave the rules; the result tells which veth it was."""
    node, pod = bench.node(OURS)
    ours = node.plugins
    config = node.config(*DUAL, **USES[use][1])
    node.plugins = plugins_of(release)
    result = node.add(config, pod)
    node.plugins = ours
    node.delete({**config, "prevResult": result})
    assert (node.links(), node.leases(), "CNI-" in node.rules()) == (["cni0"], set(), False)


def test_pods_of_both_share_bridge_pool_and_rules(bench: Bench) -> None:
    node, pod = bench.node(OURS)
    ours, config = node.plugins, node.config(*DUAL, isGateway=True, ipMasq=True, ipMasqBackend="nftables")
    for place, plugins in enumerate((ours, plugins_of(NEW), ours, plugins_of(NEW))):
        node.plugins = plugins
        node.add(config, pod, CNI_IFNAME=f"eth{place}", CNI_CONTAINERID=f"cid{place}")
    assert node.leases() == {f"10.61.0.{number}" for number in (2, 3, 4, 5)} | {f"fd61::{number}" for number in (2, 3, 4, 5)}
    assert node.rules().count("masquerade comment") == 8
    for place, plugins in enumerate((plugins_of(NEW), ours, ours, plugins_of(NEW))):
        node.plugins = plugins
        node.delete(config, pod, CNI_IFNAME=f"eth{place}", CNI_CONTAINERID=f"cid{place}")
    assert (node.links(), node.leases(), node.rules().count("masquerade comment")) == (["cni0"], set(), 0)


@pytest.mark.parametrize("command", ["STATUS", "GC"])
def test_what_1_1_0_brought_is_answered_alike(bench: Bench, command: str) -> None:
    for kind in (NEW, OURS):
        node, pod = bench.node(kind)
        config = node.config(*DUAL, isGateway=True, cniVersion="1.1.0")
        node.add(config, pod)
        said = {**config, "cni.dev/valid-attachments": [{"containerID": "cid1", "ifname": "eth0"}]}
        answer = node.run(command, said)
        assert (answer.code, answer.stdout) == (0, "")
        assert len(node.leases()) == 2
        node.delete(config, pod)
