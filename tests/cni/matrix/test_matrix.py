"""Each case of the matrix: ADD, a look at everything, DEL, another look, with ours and with a release of the reference plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import Refused
from tests.cni.matrix import network
from tests.cni.matrix.cases import CASES, NEW, OLD
from tests.cni.matrix.conftest import OURS

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json, Node
    from tests.cni.matrix.conftest import Bench

pytestmark = pytest.mark.netns


def filters_vlans(node: Node) -> bool:
    """Tell whether the kernel can tell VLANs apart on a bridge (BRIDGE_VLAN_FILTERING); where it cannot, both must refuse."""
    return "yes" in node.host.run(
        "sh", "-c", "ip link add probe type bridge vlan_filtering 1 2>/dev/null && ip link del probe && echo yes || true"
    )


def look(bench: Bench, kind: str, name: str) -> Json:
    """Go through a case; give all that was seen, each part under its name."""
    case = CASES[name]
    node, pod = bench.node(kind)
    if case.host:
        node.host.ip(*case.host)
    config = node.config(*case.subnets, **case.keys)
    if case.refused or (name in {"vlan", "trunk"} and not filters_vlans(node)):
        before = network.of(node, pod)
        with pytest.raises(Refused):
            node.add(config, pod, **case.variables)
        after = network.of(node, pod)
        return {
            "left": {part: value for part, value in after.items() if value != before[part] and part != "store"},
            "leases": node.leases(),
        }
    said = node.add(config, pod, **case.variables)
    seen = {**network.of(node, pod), "result": network.result(said)}
    node.delete(config, pod, **case.variables)
    after = network.of(node, pod)
    seen["after DEL"] = {part: after[part] for part in ("ports", "container", "store", "bridge addresses", "host routes")}
    seen["rules after DEL"] = after["rules"]
    return seen


@pytest.mark.parametrize(("release", "name"), [(release, name) for name, case in CASES.items() for release in case.releases])
def test_the_same_configuration_leaves_the_same(bench: Bench, seen_of_ours: dict[str, Json], release: str, name: str) -> None:
    theirs = look(bench, release, name)
    if name not in seen_of_ours:
        seen_of_ours[name] = look(bench, OURS, name)
    ours = seen_of_ours[name]
    other = NEW if release == OLD else OLD
    expected = {part.removeprefix(f"{release} ") for part in CASES[name].differs if not part.startswith(other)}
    differing = {part for part in theirs.keys() | ours.keys() if ours.get(part) != theirs.get(part)}
    shown = {part: (ours.get(part), theirs.get(part)) for part in differing - expected}
    assert (shown, expected - differing) == ({}, set())
