"""DEL and GC killed at each of their steps, and GC after a killed ADD: the next one finishes, and what is valid stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.faults.kinds import KILLED, KINDS, V4, V6, steps_of
from tests.cni.faults.launched import interfaces

if TYPE_CHECKING:
    from tests.cni.faults.launched import Launched

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step_of_a_del_another_del_leaves_nothing(node: Launched, kind: str) -> None:
    config, other, pod = node.config(V4, V6, **KINDS[kind]), node.pod(), node.pod()
    node.add(config, other, CNI_CONTAINERID="other")
    before = node.traces()
    for named in (pod, None):
        node.add(config, pod)
        steps = steps_of(node, "DEL", config, named)
        assert steps >= 3
        for number in range(steps):
            node.add(config, pod)
            assert node.strike(("killed", number), "DEL", config, named).code == KILLED
            node.delete(config, None if number % 2 else pod)
            assert (node.traces(), interfaces(pod)) == (before, ["lo"]), f"killed at step {number} of {steps}"


def test_killed_at_any_step_of_a_gc_another_gc_leaves_what_is_valid_alone(node: Launched) -> None:
    config = node.config(V4, V6, cniVersion="1.1.0", **KINDS["nftables, host prefix, MAC check"])
    kept, stale = node.pod(), [node.pod(), node.pod()]
    node.add(config, kept)
    before = node.traces()
    collecting = {**config, "cni.dev/valid-attachments": [{"containerID": "cid1", "ifname": "eth0"}]}
    number = steps = 0
    while number <= steps:
        for place, pod in enumerate(stale):
            node.add(config, pod, CNI_CONTAINERID=f"stale{place}")
        code = node.strike(("killed", number), "GC", collecting).code
        steps = max(steps, node.steps if code else number - 1)
        node.run("GC", collecting).result()
        assert node.traces() == before, f"killed at step {number}"
        number += 1
        if not code:
            break
    assert number > 8
    assert [interfaces(pod) for pod in stale] == [["lo"], ["lo"]]


def test_killed_at_any_step_of_an_add_a_gc_leaves_nothing(node: Launched) -> None:
    """Also when the pair is there and nothing says yet whose it is."""
    config = node.config(V4, V6, cniVersion="1.1.0", **KINDS["nftables, host prefix, MAC check"])
    other, pod = node.pod(), node.pod()
    node.add(config, other)
    before = node.traces()
    collecting = {**config, "cni.dev/valid-attachments": [{"containerID": "cid1", "ifname": "eth0"}]}
    node.add(config, pod, CNI_CONTAINERID="stale")
    steps = node.steps
    node.run("GC", collecting).result()
    for number in range(steps):
        assert node.strike(("killed", number), "ADD", config, pod, CNI_CONTAINERID="stale").code == KILLED
        node.run("GC", collecting).result()
        assert (node.traces(), interfaces(pod)) == (before, ["lo"]), f"killed at step {number} of {steps}"
