"""Passive ejection, rule by rule: endpoints that fail are passed over for a while, never all of them."""

from __future__ import annotations

from itertools import pairwise

from tests.core.balancing import A, B, C, D, balancer, eject, ejector, turns
from uproxy.core.model import Endpoint


def test_the_third_failure_running_ejects() -> None:
    found = ejector()
    eject(found, A, 100)
    assert found.is_ejected(A, 109.9)
    assert not found.is_ejected(A, 110)


def test_a_success_between_failures_starts_the_count_again() -> None:
    found = ejector()
    found.failed(A, 0)
    found.failed(A, 0)
    found.succeeded(A)
    assert not found.failed(A, 0)
    assert not found.is_ejected(A, 0)


def test_failures_of_one_endpoint_mean_nothing_for_another() -> None:
    found = ejector()
    eject(found, A, 0)
    assert not found.is_ejected(B, 0)


def test_zero_failures_switch_it_off() -> None:
    found = ejector(failures=0)
    assert not any(found.failed(A, 0) for _ in range(100))
    assert not found.suspects


def test_failures_during_the_ejection_do_not_make_it_longer() -> None:
    found = ejector()
    eject(found, A, 0)
    assert not found.failed(A, 5)
    assert not found.is_ejected(A, 10)


def test_failures_after_a_failed_trial_do_not_make_the_ejection_longer() -> None:
    found = ejector()
    eject(found, A, 0)
    found.picked(A, 10)
    assert found.failed(A, 10)
    assert not found.failed(A, 20)
    assert not found.is_ejected(A, 30)


def test_after_the_time_one_connection_tries_and_the_others_wait_for_its_result() -> None:
    found = ejector()
    made = balancer(A, B, ejecting=found)
    eject(found, A, 0)
    assert turns(made, 4, 9.9) == [B] * 4
    assert turns(made, 4, 10).count(A) == 1
    found.succeeded(A)
    assert turns(made, 4, 10).count(A) == 2


def test_a_failed_trial_doubles_the_time_up_to_the_limit() -> None:
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


def test_hundreds_of_ejections_do_not_overflow() -> None:
    found = ejector()
    for step in range(2000):
        found.failed(A, step * 61.0)
        found.picked(A, step * 61.0)
    assert found.is_ejected(A, 1999 * 61.0)


def test_a_trial_without_a_result_is_followed_by_another() -> None:
    found = ejector()
    made = balancer(A, B, ejecting=found)
    eject(found, A, 0)
    assert turns(made, 4, 10).count(A) == 1
    assert turns(made, 4, 19.9).count(A) == 0
    assert turns(made, 4, 20).count(A) == 1


def test_after_a_success_the_first_ejection_is_short_again() -> None:
    found = ejector()
    eject(found, A, 0)
    found.picked(A, 10)
    found.failed(A, 10)
    found.succeeded(A)
    eject(found, A, 100)
    assert not found.is_ejected(A, 110)


def test_healthy_endpoints_are_not_remembered() -> None:
    found = ejector()
    found.succeeded(A)
    found.failed(B, 0)
    found.succeeded(B)
    assert not found.suspects


def test_when_all_are_ejected_they_take_turns() -> None:
    found = ejector()
    made = balancer(A, B, ejecting=found)
    eject(found, A, 0)
    eject(found, B, 0)
    assert [turns(made, 4, 1).count(one) for one in (A, B)] == [2, 2]


def test_an_ejected_endpoint_is_better_than_an_avoided_one() -> None:
    found = ejector()
    eject(found, A, 0)
    assert balancer(A, B, ejecting=found).pick("10.1.0.1", 1, (B,)) == A


def test_an_endpoint_that_leaves_is_forgotten() -> None:
    found = ejector()
    made = balancer(A, B, ejecting=found)
    eject(found, A, 0)
    made.set([B], None)
    made.set([A, B], None)
    assert not found.is_ejected(A, 1)


def test_what_failed_long_ago_and_was_never_asked_for_again_is_dropped() -> None:
    found = ejector()
    for number in range(5000):
        found.failed(Endpoint(f"10.9.{number // 250}.{number % 250}", 80), number)
    assert len(found.suspects) < 1100


def test_skipping_an_endpoint_does_not_disturb_the_turns_of_the_others() -> None:
    found = ejector()
    made = balancer(A, B, C, D, ejecting=found)
    eject(found, A, 0)
    picked = turns(made, 9, 1)
    assert all(one != following for one, following in pairwise(picked))
    assert [picked.count(one) for one in (A, B, C, D)] == [0, 3, 3, 3]
