"""Random uses of balancing against naive models of the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from uproxy.core.balance import AffinityTable, Balancer, Ejector
from uproxy.core.model import Endpoint, Protocol, ServicePortName

POOL = [Endpoint(f"10.0.0.{number}", 80) for number in range(1, 4)]
CLIENTS = [f"10.1.0.{number}" for number in range(1, 4)]
PORTS = [ServicePortName("default", name, "", Protocol.TCP) for name in ("a", "b")]
FAILURES, BASE, LIMIT, CAP = 2, 10.0, 40.0, 4

endpoint_lists = st.lists(st.sampled_from(POOL), max_size=5)
avoided = st.sets(st.sampled_from(POOL), max_size=2)


class NaiveEjection:
    """What happened to one endpoint since its last success, looked at in the plainest way."""

    def __init__(self) -> None:
        self.running = 0
        self.times = 0
        self.closed_until = float("-inf")
        self.trying = False

    def failed(self, now: float) -> bool:
        if now < self.closed_until and not self.trying:
            return False
        self.running += 1
        if self.running < FAILURES:
            return False
        self.closed_until = now + min(LIMIT, BASE * 2**self.times)
        self.times += 1
        self.trying = False
        return True


class Balancing(RuleBasedStateMachine):
    """Two ServicePorts that share their endpoints' health and one small table of clients."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.ejector = Ejector(FAILURES, BASE, LIMIT)
        self.table = AffinityTable(CAP)
        self.balancers = [Balancer(port, self.ejector, self.table, random.Random(7)) for port in PORTS]
        self.timeouts: list[int | None] = [None, None]
        self.sick: dict[Endpoint, NaiveEjection] = {}
        self.pins: list[tuple[int, str, Endpoint, float]] = []  # the most recently used one last
        self.evictions = 0

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(which=st.integers(0, 1), endpoints=endpoint_lists, timeout=st.sampled_from([None, 5, 30]))
    def replace(self, which: int, endpoints: list[Endpoint], timeout: int | None) -> None:
        balancer = self.balancers[which]
        before = balancer.endpoints
        balancer.set(endpoints, timeout)
        self.timeouts[which] = timeout
        after = balancer.endpoints
        assert sorted(after) == sorted(set(endpoints))
        assert [one for one in after if one in before] == [one for one in before if one in after]
        for gone in set(before) - set(after):
            self.sick.pop(gone, None)

    @rule(endpoint=st.sampled_from(POOL))
    def fail(self, endpoint: Endpoint) -> None:
        expected = self.sick.setdefault(endpoint, NaiveEjection()).failed(self.now)
        assert expected == self.ejector.failed(endpoint, self.now)

    @rule(endpoint=st.sampled_from(POOL))
    def succeed(self, endpoint: Endpoint) -> None:
        self.sick.pop(endpoint, None)
        self.ejector.succeeded(endpoint)

    @rule(which=st.integers(0, 1), client=st.sampled_from(CLIENTS), avoid=avoided)
    def connect(self, which: int, client: str, avoid: set[Endpoint]) -> None:
        turns = self.balancers[which].endpoints
        expected, moved = self.naive_pick(which, client, turns, avoid)
        picked = self.balancers[which].pick(client, self.now, avoid)
        assert picked == expected
        if picked is None:
            return
        place = turns.index(picked) + 1
        assert self.balancers[which].endpoints == (turns[place:] + turns[:place] if moved else turns)
        self.note_pick(which, client, picked)

    def naive_pick(self, which: int, client: str, turns: tuple[Endpoint, ...], avoid: set[Endpoint]) -> tuple[Endpoint | None, bool]:
        """Say who should be picked, and whether it takes its turn (a pinned one does not)."""
        usable = [one for one in turns if one not in avoid]
        healthy = [one for one in usable if not self.is_out(one)]
        pinned = self.naive_pin(which, client)
        if pinned in healthy or (pinned in usable and not healthy):
            return pinned, False
        return next(iter(healthy or usable), None), True

    def naive_pin(self, which: int, client: str) -> Endpoint | None:
        timeout = self.timeouts[which]
        for port, name, endpoint, last in self.pins:
            if (port, name) == (which, client) and timeout is not None and self.now - last < timeout:
                return endpoint
        return None

    def note_pick(self, which: int, client: str, picked: Endpoint) -> None:
        state = self.sick.get(picked)
        if state is not None and state.times and self.now >= state.closed_until:
            state.trying = True
            state.closed_until = self.now + BASE
        if self.timeouts[which] is not None:
            self.pins = [pin for pin in self.pins if pin[:2] != (which, client)]
            self.pins.append((which, client, picked, self.now))
            self.evictions += len(self.pins) > CAP
            self.pins = self.pins[-CAP:]

    def is_out(self, endpoint: Endpoint) -> bool:
        return endpoint in self.sick and self.now < self.sick[endpoint].closed_until

    @precondition(lambda self: self.sick)
    @invariant()
    def ejections_agree(self) -> None:
        assert [self.is_out(one) for one in POOL] == [self.ejector.is_ejected(one, self.now) for one in POOL]

    @invariant()
    def memories_are_as_large_as_they_must_be(self) -> None:
        assert len(self.table) == len(self.pins) <= CAP
        assert self.table.evictions == self.evictions
        assert set(self.ejector.suspects) == set(self.sick)


TestBalancing = Balancing.TestCase
TestBalancing.settings = settings(max_examples=150, stateful_step_count=40)


@given(st.lists(endpoint_lists, min_size=1, max_size=6), st.integers(0, 2**32), st.integers(0, 7))
def test_between_two_changes_turns_are_fair(lists: list[list[Endpoint]], seed: int, rounds: int) -> None:
    balancer = Balancer(PORTS[0], Ejector(3, 10, 60), AffinityTable(1), random.Random(seed))
    for endpoints in lists:
        balancer.set(endpoints, None)
        members = set(endpoints)
        picked = [balancer.pick("10.1.0.1", 0.0) for _ in range(rounds * len(members))]
        assert all(picked.count(one) == rounds for one in members)
