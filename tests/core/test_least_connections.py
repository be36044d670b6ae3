"""uproxy.io/balance: least-connections, rule by rule, and what else annotations ask of balancing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.core.balancing import A, B, C, balancer, eject, ejector, turns
from uproxy.core.balance import Balancer, Split
from uproxy.core.loads import Loads

if TYPE_CHECKING:
    from uproxy.core.balance import Ejector
    from uproxy.core.model import Endpoint


def least(*endpoints: Endpoint, affinity_seconds: int | None = None, ejecting: Ejector | None = None) -> Balancer:
    made = balancer(*endpoints, ejecting=ejecting)
    made.set(endpoints, affinity_seconds, least_connections=True)
    return made


def connect(made: Balancer, client: str = "10.1.0.1") -> Endpoint:
    chosen = made.pick(client, 0)
    assert chosen is not None
    made.loads.began(chosen)
    return chosen


def test_the_endpoint_with_the_fewest_connections_is_chosen() -> None:
    made = least(A, B, C)
    for endpoint, number in ((A, 3), (B, 1), (C, 2)):
        for _ in range(number):
            made.loads.began(endpoint)
    assert [connect(made) for _ in range(1)] == [B]
    assert {connect(made), connect(made)} == {B, C}
    assert Counter(connect(made) for _ in range(3)) == {A: 1, B: 1, C: 1}


def test_among_equals_the_turn_decides() -> None:
    made = least(A, B, C)
    assert turns(made, 6) == list(made.endpoints) * 2


def test_one_that_ended_makes_its_endpoint_the_next() -> None:
    made = least(A, B)
    for _ in range(4):
        connect(made)
    made.loads.ended(A)
    assert connect(made) == A


def test_an_avoided_endpoint_is_not_chosen_however_idle_it_is() -> None:
    made = least(A, B)
    made.loads.began(B)
    assert made.pick("10.1.0.1", 0, (A,)) == B
    assert made.pick("10.1.0.1", 0, (A, B)) is None


def test_an_ejected_endpoint_is_passed_over_unless_there_is_no_other() -> None:
    found = ejector()
    made = least(A, B, ejecting=found)
    eject(found, A, 0)
    made.loads.began(B)
    assert made.pick("10.1.0.1", 0) == B
    assert made.pick("10.1.0.1", 0, (B,)) == A


def test_session_affinity_comes_first() -> None:
    made = least(A, B, affinity_seconds=60)
    pinned = connect(made)
    assert {connect(made) for _ in range(5)} == {pinned}
    assert connect(made, "10.1.0.2") != pinned


def test_taking_it_away_brings_the_turns_back() -> None:
    made = least(A, B)
    made.loads.began(A)
    made.loads.began(A)
    made.set((A, B), None)
    assert set(turns(made, 2)) == {A, B}


def test_an_endpoint_of_two_services_is_as_loaded_as_both_make_it() -> None:
    loads = Loads()
    first, second = (balancer(A, B) for _ in range(2))
    for made in (first, second):
        made.loads = loads
        made.set((A, B), None, least_connections=True)
    for _ in range(3):
        connect(first)
    assert loads.of(A) + loads.of(B) == 3
    busier = max((A, B), key=loads.of)
    assert connect(second) != busier


def test_what_ended_leaves_nothing_behind() -> None:
    loads = Loads()
    for _ in range(3):
        loads.began(A)
    for _ in range(3):
        loads.ended(A)
    assert (len(loads), loads.of(A)) == (0, 0)


def test_both_sides_of_a_split_count_alike() -> None:
    loads = Loads()
    outside, inside = least(A, B), least(A, B)
    outside.loads = inside.loads = loads
    split = Split(outside, inside, lambda client: client.startswith("10."))
    for client in ("10.1.0.1", "192.0.2.1", "10.1.0.1", "192.0.2.1"):
        chosen = split.pick(client, 0)
        assert chosen is not None
        split.loads.began(chosen)
    assert (loads.of(A), loads.of(B)) == (2, 2)


def test_whether_there_is_an_endpoint_depends_on_the_side_of_the_client() -> None:
    split = Split(balancer(), balancer(A), lambda client: client.startswith("10."))
    assert split.offers("10.1.0.1")
    assert not split.offers("192.0.2.1")
    assert split.endpoints == (A,)
