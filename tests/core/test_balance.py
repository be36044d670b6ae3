"""Round robin, session affinity and passive ejection, rule by rule. Times are numbers, so nothing waits."""

from __future__ import annotations

import random
from itertools import pairwise

from uproxy.core.balance import AffinityTable, Balancer, Ejector
from uproxy.core.model import Endpoint, Protocol, ServicePortName

A, B, C, D = (Endpoint(f"10.0.0.{number}", 80) for number in range(1, 5))
WEB = ServicePortName("default", "web", "http", Protocol.TCP)
API = ServicePortName("default", "api", "http", Protocol.TCP)


def ejector(failures: int = 3, base: float = 10, limit: float = 60) -> Ejector:
    return Ejector(failures, base, limit)


def balancer(
    *endpoints: Endpoint,
    affinity_seconds: int | None = None,
    ejecting: Ejector | None = None,
    table: AffinityTable | None = None,
    of: ServicePortName = WEB,
    seed: int = 1,
) -> Balancer:
    made = Balancer(of, ejecting or ejector(), AffinityTable(100) if table is None else table, random.Random(seed))
    made.set(endpoints, affinity_seconds)
    return made


def turns(made: Balancer, count: int, now: float = 0.0) -> list[Endpoint | None]:
    return [made.pick("10.1.0.1", now) for _ in range(count)]


def eject(found: Ejector, endpoint: Endpoint, now: float) -> None:
    assert [found.failed(endpoint, now) for _ in range(3)] == [False, False, True]


class TestRoundRobin:
    """Every endpoint in its turn."""

    def test_without_endpoints_there_is_nothing_to_pick(self) -> None:
        assert balancer().pick("10.1.0.1", 0) is None

    def test_everyone_gets_a_turn_in_the_same_order_again_and_again(self) -> None:
        found = turns(balancer(A, B, C), 9)
        assert set(found[:3]) == {A, B, C}
        assert found == found[:3] * 3

    def test_endpoints_are_given_in_the_order_of_their_turns(self) -> None:
        made = balancer(A, B, C)
        made.pick("10.1.0.1", 0)
        assert list(made.endpoints) == turns(made, 3)

    def test_an_endpoint_given_twice_has_one_turn(self) -> None:
        assert set(turns(balancer(A, A, B), 2)) == {A, B}

    def test_the_first_order_is_random(self) -> None:
        assert len({balancer(A, B, C, seed=seed).endpoints for seed in range(100)}) == 6

    def test_a_new_endpoint_comes_in_at_any_place(self) -> None:
        places = set()
        for seed in range(100):
            made = balancer(A, B, C, seed=seed)
            made.set([A, B, C, D], None)
            places.add(made.endpoints.index(D))
        assert places == {0, 1, 2, 3}

    def test_who_stays_keeps_the_order_and_the_turn(self) -> None:
        made = balancer(A, B, C)
        made.pick("10.1.0.1", 0)
        before = made.endpoints
        made.set([C, B, A], None)
        assert made.endpoints == before

    def test_when_the_next_one_leaves_the_one_behind_it_is_next(self) -> None:
        made = balancer(A, B, C)
        first, second, third = made.endpoints
        made.set([second, third], None)
        assert turns(made, 2) == [second, third]
        assert first not in made.endpoints

    def test_an_avoided_endpoint_is_passed_over(self) -> None:
        made = balancer(A, B, C)
        assert all(made.pick("10.1.0.1", 0, (A,)) != A for _ in range(6))

    def test_when_all_are_avoided_there_is_none(self) -> None:
        assert balancer(A, B).pick("10.1.0.1", 0, {A, B}) is None

    def test_four_attempts_that_avoid_what_they_tried_meet_four_endpoints(self) -> None:
        made = balancer(A, B, C, D)
        tried: list[Endpoint] = []
        for _ in range(4):
            found = made.pick("10.1.0.1", 0, tried)
            assert found is not None
            tried.append(found)
        assert set(tried) == {A, B, C, D}


class TestEjection:
    """Endpoints that fail are passed over for a while, never all of them."""

    def test_the_third_failure_running_ejects(self) -> None:
        found = ejector()
        eject(found, A, 100)
        assert found.is_ejected(A, 109.9)
        assert not found.is_ejected(A, 110)

    def test_a_success_between_failures_starts_the_count_again(self) -> None:
        found = ejector()
        found.failed(A, 0)
        found.failed(A, 0)
        found.succeeded(A)
        assert not found.failed(A, 0)
        assert not found.is_ejected(A, 0)

    def test_failures_of_one_endpoint_mean_nothing_for_another(self) -> None:
        found = ejector()
        eject(found, A, 0)
        assert not found.is_ejected(B, 0)

    def test_zero_failures_switch_it_off(self) -> None:
        found = ejector(failures=0)
        assert not any(found.failed(A, 0) for _ in range(100))
        assert not found.suspects

    def test_failures_during_the_ejection_do_not_make_it_longer(self) -> None:
        found = ejector()
        eject(found, A, 0)
        assert not found.failed(A, 5)
        assert not found.is_ejected(A, 10)

    def test_failures_after_a_failed_trial_do_not_make_the_ejection_longer(self) -> None:
        found = ejector()
        eject(found, A, 0)
        found.picked(A, 10)
        assert found.failed(A, 10)
        assert not found.failed(A, 20)
        assert not found.is_ejected(A, 30)

    def test_after_the_time_one_connection_tries_and_the_others_wait_for_its_result(self) -> None:
        found = ejector()
        made = balancer(A, B, ejecting=found)
        eject(found, A, 0)
        assert turns(made, 4, 9.9) == [B] * 4
        assert turns(made, 4, 10).count(A) == 1
        found.succeeded(A)
        assert turns(made, 4, 10).count(A) == 2

    def test_a_failed_trial_doubles_the_time_up_to_the_limit(self) -> None:
        found = ejector()
        eject(found, A, 0)
        now, lasting = 10.0, []
        for _ in range(4):
            found.picked(A, now)
            assert found.failed(A, now)
            until = next(t for t in range(int(now), 1000) if not found.is_ejected(A, t))
            lasting.append(until - now)
            now = float(until)
        assert lasting == [20, 40, 60, 60]

    def test_hundreds_of_ejections_do_not_overflow(self) -> None:
        found = ejector()
        for step in range(2000):
            found.failed(A, step * 61.0)
            found.picked(A, step * 61.0)
        assert found.is_ejected(A, 1999 * 61.0)

    def test_a_trial_without_a_result_is_followed_by_another(self) -> None:
        found = ejector()
        made = balancer(A, B, ejecting=found)
        eject(found, A, 0)
        assert turns(made, 4, 10).count(A) == 1
        assert turns(made, 4, 19.9).count(A) == 0
        assert turns(made, 4, 20).count(A) == 1

    def test_after_a_success_the_first_ejection_is_short_again(self) -> None:
        found = ejector()
        eject(found, A, 0)
        found.picked(A, 10)
        found.failed(A, 10)
        found.succeeded(A)
        eject(found, A, 100)
        assert not found.is_ejected(A, 110)

    def test_healthy_endpoints_are_not_remembered(self) -> None:
        found = ejector()
        found.succeeded(A)
        found.failed(B, 0)
        found.succeeded(B)
        assert not found.suspects

    def test_when_all_are_ejected_they_take_turns(self) -> None:
        found = ejector()
        made = balancer(A, B, ejecting=found)
        eject(found, A, 0)
        eject(found, B, 0)
        assert [turns(made, 4, 1).count(one) for one in (A, B)] == [2, 2]

    def test_an_ejected_endpoint_is_better_than_an_avoided_one(self) -> None:
        found = ejector()
        eject(found, A, 0)
        assert balancer(A, B, ejecting=found).pick("10.1.0.1", 1, (B,)) == A

    def test_an_endpoint_that_leaves_is_forgotten(self) -> None:
        found = ejector()
        made = balancer(A, B, ejecting=found)
        eject(found, A, 0)
        made.set([B], None)
        made.set([A, B], None)
        assert not found.is_ejected(A, 1)

    def test_what_failed_long_ago_and_was_never_asked_for_again_is_dropped(self) -> None:
        found = ejector()
        for number in range(5000):
            found.failed(Endpoint(f"10.9.{number // 250}.{number % 250}", 80), number)
        assert len(found.suspects) < 1100


class TestAffinity:
    """A client stays with its endpoint."""

    def test_a_client_gets_the_same_endpoint_and_others_take_turns(self) -> None:
        made = balancer(A, B, C, affinity_seconds=60)
        first = made.pick("10.1.0.1", 0)
        assert {made.pick("10.1.0.1", now) for now in range(50)} == {first}
        assert {made.pick(f"10.1.0.{client}", 0) for client in range(2, 5)} == {A, B, C}

    def test_the_time_runs_from_the_last_connection(self) -> None:
        made = balancer(A, B, affinity_seconds=60)
        first = made.pick("10.1.0.1", 0)
        assert made.pick("10.1.0.1", 59.9) == first
        assert made.pick("10.1.0.1", 119.8) == first
        assert made.pick("10.1.0.1", 119.8 + 60) != first

    def test_exactly_at_the_end_of_the_time_a_client_is_free(self) -> None:
        made = balancer(A, B, affinity_seconds=60)
        assert made.pick("10.1.0.1", 0) != made.pick("10.1.0.1", 60)

    def test_a_new_time_counts_for_clients_that_are_known(self) -> None:
        made = balancer(A, B, affinity_seconds=60)
        first = made.pick("10.1.0.1", 0)
        made.set([A, B], 600)
        assert made.pick("10.1.0.1", 300) == first
        made.set([A, B], 10)
        assert made.pick("10.1.0.1", 311) != first

    def test_switched_on_and_off_it_counts_for_the_next_connection(self) -> None:
        made = balancer(A, B)
        made.set([A, B], 60)
        assert len(set(turns(made, 4))) == 1
        made.set([A, B], None)
        assert len(set(turns(made, 4))) == 2

    def test_an_endpoint_that_left_is_replaced_for_good(self) -> None:
        made = balancer(A, B, C, affinity_seconds=60)
        first = made.pick("10.1.0.1", 0)
        made.set([one for one in (A, B, C) if one != first], 60)
        second = made.pick("10.1.0.1", 1)
        assert second not in {None, first}
        made.set([A, B, C], 60)
        assert made.pick("10.1.0.1", 2) == second

    def test_an_endpoint_that_did_not_answer_is_replaced_for_good(self) -> None:
        made = balancer(A, B, C, affinity_seconds=60)
        first = made.pick("10.1.0.1", 0)
        assert first is not None
        second = made.pick("10.1.0.1", 0, [first])
        assert second != first
        assert made.pick("10.1.0.1", 1) == second

    def test_an_ejected_endpoint_is_replaced_unless_all_are_ejected(self) -> None:
        found = ejector()
        made = balancer(A, B, affinity_seconds=600, ejecting=found)
        first = made.pick("10.1.0.1", 0)
        other = B if first == A else A
        eject(found, A, 0)
        eject(found, B, 0)
        assert made.pick("10.1.0.1", 1) == first
        found.succeeded(other)
        assert made.pick("10.1.0.1", 2) == other

    def test_the_pinned_client_is_the_one_that_tries_after_the_ejection(self) -> None:
        found = ejector()
        made = balancer(A, affinity_seconds=600, ejecting=found)
        made.pick("10.1.0.1", 0)
        eject(found, A, 0)
        assert made.pick("10.1.0.1", 10) == A
        assert found.is_ejected(A, 10)

    def test_service_ports_that_share_a_table_do_not_share_pins(self) -> None:
        table = AffinityTable(100)
        balancer(A, affinity_seconds=60, table=table).pick("10.1.0.1", 0)
        assert balancer(B, affinity_seconds=60, table=table, of=API).pick("10.1.0.1", 0) == B
        assert len(table) == 2

    def test_without_affinity_nobody_is_remembered(self) -> None:
        table = AffinityTable(100)
        turns(balancer(A, B, table=table), 10)
        assert len(table) == 0

    def test_beyond_the_cap_the_least_recently_used_client_is_forgotten_and_counted(self) -> None:
        table = AffinityTable(3)
        for now, client in enumerate(["a", "b", "c", "a", "d"]):
            table.pin(WEB, client, A, now)
        assert table.evictions == 1
        assert [table.find(WEB, client, 5, 60) for client in "abcd"] == [A, None, A, A]

    def test_a_client_that_gets_none_is_not_remembered(self) -> None:
        table = AffinityTable(3)
        assert balancer(affinity_seconds=60, table=table).pick("10.1.0.1", 0) is None
        assert len(table) == 0


def test_skipping_an_endpoint_does_not_disturb_the_turns_of_the_others() -> None:
    found = ejector()
    made = balancer(A, B, C, D, ejecting=found)
    eject(found, A, 0)
    picked = turns(made, 9, 1)
    assert all(one != following for one, following in pairwise(picked))
    assert [picked.count(one) for one in (A, B, C, D)] == [0, 3, 3, 3]
