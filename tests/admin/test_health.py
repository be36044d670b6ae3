"""When the proxy counts as healthy, and when as alive."""

from __future__ import annotations

from uproxy.admin.health import Health

PATIENCE = 60


def test_before_the_first_sync_it_is_alive_for_a_while_but_not_healthy() -> None:
    health = Health(PATIENCE, now=0)
    assert (health.is_alive(PATIENCE), health.is_healthy(PATIENCE)) == (True, False)
    assert not health.is_alive(PATIENCE + 1)


def test_waiting_for_the_source_is_no_reason_to_be_restarted() -> None:
    health = Health(PATIENCE, now=0)
    health.not_listed(PATIENCE)
    assert (health.is_alive(2 * PATIENCE), health.is_healthy(2 * PATIENCE)) == (True, False)
    assert not health.is_alive(2 * PATIENCE + 1)


def test_after_a_sync_it_is_healthy_however_long_nothing_happens() -> None:
    health = Health(PATIENCE, now=0)
    health.synced(1)
    assert health.is_healthy(1_000_000)


def test_a_change_that_waits_too_long_makes_it_unhealthy_until_it_is_applied() -> None:
    health = Health(PATIENCE, now=0)
    health.synced(1)
    health.queued(10)
    health.queued(50)
    assert health.is_healthy(10 + PATIENCE)
    assert not health.is_healthy(10 + PATIENCE + 1)
    health.synced(80)
    assert health.is_healthy(80)


def test_a_change_that_came_during_the_sync_still_waits_after_it() -> None:
    health = Health(PATIENCE, now=0)
    health.synced(10, more=True)
    assert not health.is_healthy(10 + PATIENCE + 1)


def test_a_failed_sync_is_forgiven_for_a_while() -> None:
    health = Health(PATIENCE, now=0)
    health.synced(1)
    health.failed(5, "the kernel is busy")
    assert (health.is_healthy(6), health.last_failure) == (True, "the kernel is busy")
    assert not health.is_alive(5 + PATIENCE + 1)


def test_draining_is_not_healthy_but_alive() -> None:
    health = Health(PATIENCE, now=0)
    health.synced(1)
    health.draining()
    assert (health.is_alive(2), health.is_healthy(2)) == (True, False)
