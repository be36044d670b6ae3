"""ADD failing at each of its steps: everything undone, nothing of anybody else's touched; DEL failing: the rest still done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import Refused
from tests.cni.faults.kinds import KINDS, V4, V6, steps_of
from tests.cni.faults.launched import interfaces

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.faults.launched import Launched

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("fate", ["refused", "unanswered"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_add_that_fails_at_any_step_is_undone(node: Launched, kind: str, fate: str) -> None:
    node.counts_reads = fate == "refused" and "MAC" in kind
    config, other, pod = node.config(V4, V6, **KINDS[kind]), node.pod(), node.pod()
    node.add(config, other, CNI_CONTAINERID="other")
    before = node.traces()
    steps = steps_of(node, "ADD", config, pod)
    node.delete(config, pod)
    for number in range(steps):
        answer = node.strike((fate, number), "ADD", config, pod)
        if answer.code == 0:
            node.check(config, answer.result(), pod)
            node.delete(config, pod)
            continue
        with pytest.raises(Refused) as refused:
            answer.result()
        assert refused.value.code in {5, 11}, f"step {number} of {steps}: {refused.value.said}"
        assert (node.traces(), interfaces(pod)) == (before, ["lo"]), f"failed at step {number} of {steps}: {refused.value.said}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_del_that_fails_at_any_step_does_the_rest_and_another_one_finishes(node: Launched, kind: str) -> None:
    config, other, pod = node.config(V4, V6, **KINDS[kind]), node.pod(), node.pod()
    node.add(config, other, CNI_CONTAINERID="other")
    before = node.traces()
    node.counts_reads = "MAC" in kind
    node.add(config, pod)
    steps = steps_of(node, "DEL", config, pod)
    for number in range(steps):
        node.add(config, pod)
        answer = node.strike(("refused", number), "DEL", config, pod)
        if answer.code:
            with pytest.raises(Refused) as refused:
                answer.result()
            assert refused.value.code == 5, f"step {number} of {steps}: {refused.value.said}"
            node.delete(config, None)
        assert (node.traces(), interfaces(pod)) == (before, ["lo"]), f"failed at step {number} of {steps}"


@pytest.mark.parametrize("wish", [{}, {"args": {"cni": {"ips": ["10.61.0.2"]}}}], ids=["any address", "the very same"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_add_of_what_is_attached_already_is_refused_and_costs_it_nothing(node: Launched, kind: str, wish: Json) -> None:
    config, pod = node.config(V4, V6, **KINDS[kind], **wish), node.pod()
    result = node.add(config, pod)
    before = node.traces()
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            node.add(config, pod)
        assert refused.value.code in {103, 105}
        assert node.traces() == before
    node.check(config, result, pod)
