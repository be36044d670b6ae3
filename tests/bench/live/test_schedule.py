"""When units fall due, and which are given up."""

from __future__ import annotations

import pytest

from bench.live.schedule import LATE_SECONDS, Schedule, Unit


def take_all(schedule: Schedule, now: float = 0.0) -> list[Unit]:
    return list(iter(lambda: schedule.take(now, now), None))


def test_units_fall_due_at_the_rate_from_the_start_on() -> None:
    assert [unit.due for unit in take_all(Schedule(10, 0.5))] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("rate", "duration", "total"), [(100, 10, 1000), (0.1, 30, 3), (3, 0.5, 2), (0.001, 1, 1), (10_000, 600, 6_000_000)]
)
def test_as_many_are_due_as_fit_into_the_duration(rate: float, duration: float, total: int) -> None:
    assert Schedule(rate, duration).total == total


def test_a_unit_that_is_a_little_late_is_sent_all_the_same() -> None:
    schedule = Schedule(100, 1)

    assert schedule.take(LATE_SECONDS, idle_since=LATE_SECONDS) == Unit(0, 0.0)
    assert schedule.busy == schedule.late == 0


def test_units_that_are_too_late_are_given_up_because_nothing_was_free() -> None:
    schedule = Schedule(100, 1)
    now = 0.5

    unit = schedule.take(now, idle_since=now)

    assert unit is not None
    assert now - LATE_SECONDS <= unit.due < now - LATE_SECONDS + 0.01
    assert (schedule.busy, schedule.late) == (unit.number, 0)


def test_units_that_somebody_waited_for_are_late_by_our_own_fault() -> None:
    schedule = Schedule(100, 1)

    unit = schedule.take(0.5, idle_since=0.2)

    assert unit is not None
    assert (schedule.busy, schedule.late) == (20, unit.number - 20)


def test_when_the_duration_is_over_only_the_last_units_may_still_be_sent() -> None:
    schedule = Schedule(100, 1)

    late = schedule.take(1.05, idle_since=1.05)
    assert late is not None
    assert late.due >= 0.95
    assert schedule.take(1 + LATE_SECONDS, idle_since=0.0) is None
    assert (late.number, schedule.busy, schedule.late) == (95, 95, 4)


def test_a_stop_gives_up_what_was_due_until_then_and_nothing_else() -> None:
    schedule = Schedule(100, 1)
    schedule.take(0, 0)
    schedule.stop(0.305)

    assert schedule.busy == 30


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.3, 0.9])
def test_every_unit_is_sent_or_given_up_and_after_a_pause_no_flood_follows(pause: float) -> None:
    schedule, now, times = Schedule(100, 1), 0.0, list[float]()
    while unit := schedule.take(now, idle_since=now):
        now = max(now, unit.due) + (pause if unit.number == 10 else 0)
        times.append(now)

    assert len(times) + schedule.busy == schedule.total == 100
    assert sum(time == times[10] for time in times) <= 100 * LATE_SECONDS + 2
