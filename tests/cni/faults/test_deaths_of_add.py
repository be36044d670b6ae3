"""ADD killed at each of its steps: the next DEL, GC or ADD finds its way, and nobody else's things are touched."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import addresses, reference, routes
from tests.cni.faults.kinds import KILLED, KINDS, V4, V6, steps_of
from tests.cni.faults.launched import interfaces

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.faults.launched import Launched
    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step_of_an_add_a_del_leaves_nothing(node: Launched, kind: str) -> None:
    """DEL is told the namespace every other time."""
    config, other, pod = node.config(V4, V6, **KINDS[kind]), node.pod(), node.pod()
    node.add(config, other, CNI_CONTAINERID="other")
    before = node.traces()
    steps = steps_of(node, "ADD", config, pod)
    node.delete(config, pod)
    assert steps > 15
    for number in range(steps):
        assert node.strike(("killed", number), "ADD", config, pod).code == KILLED
        node.delete(config, pod if number % 2 else None)
        assert (node.traces(), interfaces(pod)) == (before, ["lo"]), f"killed at step {number} of {steps}"


def shared(node: Launched, pod: Namespace) -> Json:
    """Give what the first pod of a node finds or makes there, and what itself has."""
    settings = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.cni0.accept_ra")
    bridge = node.host.run("ip", "-o", "link", "show", "cni0").split()
    return {
        "bridge": (bridge[2], bridge[4], addresses(node.host, "cni0")),
        "settings": [node.host.read_sysctl(name) for name in settings],
        "rules": node.rules(),
        "pod": (addresses(pod, "eth0"), routes(pod)),
    }


def test_killed_at_any_step_of_the_first_add_of_a_node_the_next_one_makes_everything_whole(node: Launched) -> None:
    always = {"cni": {"ips": ["10.61.0.2", "fd61::2"]}}
    config, pod = node.config(V4, V6, args=always, **KINDS["plain"]), node.pod()
    steps = steps_of(node, "ADD", config, pod)
    whole = shared(node, pod)
    for number in range(steps):
        node.delete(config, pod)
        node.host.run("sh", "-c", "ip link del cni0; nft flush ruleset; sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")
        shutil.rmtree(node.store)
        assert node.strike(("killed", number), "ADD", config, pod).code == KILLED
        node.delete(config)
        assert node.traces()[:2] in ((("cni0",), frozenset()), ((), frozenset()))
        node.add(config, pod)
        assert shared(node, pod) == whole, f"killed at step {number} of {steps}"


def test_killed_around_an_executed_ipam_plugin_a_del_leaves_nothing(node: Launched) -> None:
    """The reference host-local has taken its addresses or has not: our DEL executes it again."""
    theirs = reference()
    if theirs is None:
        pytest.skip("needs Debian's containernetworking-plugins")
    (node.plugins / "host-local").unlink()
    shutil.copy(theirs / "host-local", node.plugins / "host-local")
    config, pod = node.config(V4, V6, isDefaultGateway=True, podPrefix="host"), node.pod()
    node.add(config, pod)
    node.delete(config, pod)
    steps = steps_of(node, "ADD", config, pod)
    for number in range(steps):
        node.delete(config, pod)
        assert node.strike(("killed", number), "ADD", config, pod).code == KILLED
        node.delete(config, None if number % 2 else pod)
        assert (node.traces()[:2], interfaces(pod)) == ((("cni0",), frozenset()), ["lo"]), f"killed at step {number} of {steps}"
