"""Pauses: they double up to a limit, differ from node to node, begin anew after a success, and respect Retry-After."""

from __future__ import annotations

from random import Random

from uproxy.config import KubernetesSettings
from uproxy.config_rules import Duration
from uproxy.sources.kubernetes.backoff import Backoff

SETTINGS = KubernetesSettings(retry_base=Duration(1), retry_limit=Duration(30), retry_after_limit=Duration(60))


def pauses(number: int, seed: int = 1, retry_after: float = 0.0) -> list[float]:
    backoff = Backoff(SETTINGS, Random(seed))
    return [backoff.failed(retry_after) for _ in range(number)]


def test_pauses_double_give_or_take_a_half_up_to_the_limit() -> None:
    for seed in range(50):
        found = pauses(100, seed)
        for number, pause in enumerate(found[:4]):
            assert 0.5 * 2**number <= pause <= 1.5 * 2**number
        assert all(10 <= pause <= 30 for pause in found[5:])


def test_nodes_that_lost_a_server_together_come_back_spread_over_time() -> None:
    for number in (0, 3, 10):
        spread = sorted(pauses(number + 1, seed)[number] for seed in range(200))
        assert spread[-1] > 2 * spread[0]
        assert len(set(spread)) == 200


def test_after_a_success_pauses_begin_anew() -> None:
    backoff = Backoff(SETTINGS, Random(1))
    for _ in range(10):
        backoff.failed()
    assert backoff.failures == 10
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.failed() <= 1.5


def test_the_servers_own_wish_is_the_least_pause_and_spread_too() -> None:
    found = [pauses(1, seed, retry_after=8)[0] for seed in range(200)]
    assert min(found) >= 8
    assert max(found) <= 12
    assert len(set(found)) == 200
    assert all(pause >= 5 for pause in pauses(9, retry_after=0.1)[5:]), "a short wish makes the pauses no shorter"


def test_an_absurd_wish_is_bounded() -> None:
    assert pauses(1, retry_after=1e9)[0] <= 90
