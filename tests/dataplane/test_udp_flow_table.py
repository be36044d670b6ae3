"""The flow table against a naive model: a list that is sorted anew for each question."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from uproxy.dataplane.flows import FlowTable

UNANSWERED, ANSWERED = 30.0, 120.0


class TimedFlow:
    """A flow that does nothing but be used."""

    def __init__(self, used: float) -> None:
        self.used = used
        self.is_answered = False

    def end(self, *, at_once: bool = False) -> None:  # noqa: ARG002 - the Protocol's parameter
        """Nobody asks for it: the table alone never ends a flow."""
        raise AssertionError

    @property
    def due(self) -> float:
        """When the flow has been idle for too long."""
        return self.used + (ANSWERED if self.is_answered else UNANSWERED)


class FlowTableHistory(RuleBasedStateMachine):
    """Flows come, are used and answered, and go, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.table: FlowTable[TimedFlow] = FlowTable(UNANSWERED, ANSWERED)
        self.flows: list[TimedFlow] = []

    def tick(self) -> float:
        """Let no two uses be at the same time: among equals the model would have to know the order."""
        self.now += 0.001
        return self.now

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def flow_begins(self) -> None:
        flow = TimedFlow(self.tick())
        self.flows.append(flow)
        self.table.add(flow)

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def client_sends(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(self.flows))
        flow.used = self.tick()
        (self.table.touch_answered if flow.is_answered else self.table.touch_unanswered)(flow)

    @precondition(lambda self: any(not flow.is_answered for flow in self.flows))
    @rule(data=st.data())
    def endpoint_answers_first(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from([flow for flow in self.flows if not flow.is_answered]))
        flow.used = self.tick()
        flow.is_answered = True
        self.table.answered(flow)

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def flow_ends(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(self.flows))
        self.flows.remove(flow)
        assert self.table.discard(flow)
        assert not self.table.discard(flow)

    @rule(at_most=st.integers(0, 5))
    def idle_ones_are_the_oldest_of_each_kind(self, at_most: int) -> None:
        overdue = [flow for flow in self.flows if flow.due <= self.now]
        unanswered = sorted((flow for flow in overdue if not flow.is_answered), key=lambda flow: flow.used)
        answered = sorted((flow for flow in overdue if flow.is_answered), key=lambda flow: flow.used)
        assert self.table.idle(self.now, at_most) == (unanswered + answered)[:at_most]

    @invariant()
    def agrees(self) -> None:
        assert len(self.table) == len(self.flows)
        assert all(flow in self.table for flow in self.flows)
        assert self.table.oldest() is min(self.flows, key=lambda flow: flow.used, default=None)
        assert self.table.due() == min((flow.due for flow in self.flows), default=None)


FlowTableHistory.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestFlowTable = FlowTableHistory.TestCase
