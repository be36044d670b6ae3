"""Round robin and session affinity, rule by rule. Times are numbers, so nothing waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.core.balancing import API, WEB, A, B, C, D, balancer, eject, ejector, turns
from uproxy.core.balance import AffinityTable

if TYPE_CHECKING:
    from uproxy.core.model import Endpoint


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
