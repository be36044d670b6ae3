"""Which Events are written and when: equal ones are counted, similar ones combined, and nothing grows without bound."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from uproxy.config import KubernetesSettings
from uproxy.config_rules import Duration
from uproxy.core.model import ObjectKey
from uproxy.event_recorder import ClusterEvent
from uproxy.sources.kubernetes.event_series import COMBINED, NOTE_BYTES, Correlator, Series, cut

SETTINGS: Final = KubernetesSettings(event_queue=20, event_similar=3)
UNIX: Final = 1_700_000_000.0
WEB: Final = ClusterEvent("Warning", "PortConflict", "Listen", "Service", ObjectKey("shop", "web"), "port 80 is taken")


def about(name: str, note: str = "port 80 is taken") -> ClusterEvent:
    return replace(WEB, key=ObjectKey("shop", name), note=note)


def pending(correlator: Correlator, now: float) -> list[Series]:
    """Write everything that is due, and give it."""
    done = []
    while (series := correlator.next(now)) is not None:
        correlator.written(series, series.count, now)
        done.append(series)
    return done


def test_an_event_is_written_at_once() -> None:
    correlator = Correlator(SETTINGS)
    assert correlator.wait(5) is None
    assert correlator.add(WEB, now=5, unix=UNIX)
    assert correlator.wait(5) == 0
    (series,) = pending(correlator, 5)
    assert (series.event, series.count, series.first, series.last) == (WEB, 1, UNIX, UNIX)
    assert correlator.wait(5) is None


def test_a_name_is_the_objects_own_and_a_time_that_no_other_has() -> None:
    correlator = Correlator(SETTINGS)
    for name in ("web", "cart"):
        correlator.add(about(name), now=5, unix=UNIX)
    assert [series.name for series in pending(correlator, 5)] == [f"web.{int(UNIX * 1e9):x}", f"cart.{int(UNIX * 1e9) + 1:x}"]


def test_a_name_is_one_that_the_api_takes_however_long_the_nodes_name_is() -> None:
    correlator = Correlator(SETTINGS)
    node = ".".join(["n" * 49] * 5)
    correlator.add(replace(WEB, kind="Node", key=ObjectKey("", node)), now=5, unix=UNIX)
    (series,) = pending(correlator, 5)
    assert len(series.name) <= 253
    assert ".." not in series.name


def test_equal_events_that_wait_are_written_once_with_their_number() -> None:
    correlator = Correlator(SETTINGS)
    for second in range(4):
        correlator.add(WEB, now=second, unix=UNIX + second)
    (series,) = pending(correlator, 5)
    assert (series.count, series.first, series.last) == (4, UNIX, UNIX + 3)


def test_the_count_of_an_event_that_occurs_again_is_written_once_per_interval() -> None:
    correlator = Correlator(SETTINGS)
    correlator.add(WEB, now=0, unix=UNIX)
    pending(correlator, 0)
    for second in range(1, 60):
        correlator.add(WEB, now=second, unix=UNIX + second)
    assert correlator.wait(59) == 1
    assert pending(correlator, 59) == []
    (series,) = pending(correlator, 60)
    assert (series.count, series.last) == (60, UNIX + 59)


def test_what_occurs_while_it_is_being_written_is_told_an_interval_later() -> None:
    correlator = Correlator(SETTINGS)
    correlator.add(WEB, now=0, unix=UNIX)
    series = correlator.next(0)
    assert series is not None
    correlator.add(WEB, now=1, unix=UNIX + 1)
    correlator.written(series, count=1, now=2)
    assert correlator.wait(2) == SETTINGS.event_repeat
    assert [each.count for each in pending(correlator, 2 + SETTINGS.event_repeat)] == [2]


def test_an_event_that_has_not_occurred_for_long_is_a_new_one() -> None:
    correlator = Correlator(SETTINGS)
    names = []
    for now in (0, SETTINGS.event_forget, 2 * SETTINGS.event_forget + 1):
        correlator.add(WEB, now=now, unix=UNIX + now)
        names += [series.name for series in pending(correlator, now)]
    assert names[0] == names[1] != names[2]
    assert len(correlator) == 1


def test_events_that_differ_only_in_their_notes_are_combined_when_there_are_many() -> None:
    correlator = Correlator(SETTINGS)
    for number in range(100):
        correlator.add(about("web", f"port {number} is taken"), now=0, unix=UNIX)
    correlator.add(about("cart"), now=0, unix=UNIX)
    written = {series.event: series.count for series in pending(correlator, 0)}
    assert written == {
        about("web", "port 0 is taken"): 1,
        about("web", "port 1 is taken"): 1,
        about("web", "port 2 is taken"): 1,
        about("web", f"{COMBINED}port 3 is taken"): 97,
        about("cart"): 1,
    }


def test_once_similar_events_are_over_they_are_told_apart_again() -> None:
    correlator = Correlator(SETTINGS)
    for number in range(10):
        correlator.add(about("web", f"port {number} is taken"), now=0, unix=UNIX)
    pending(correlator, 0)
    later = SETTINGS.event_forget + 1
    correlator.add(about("web", "port 10 is taken"), now=later, unix=UNIX)
    assert [series.event.note for series in pending(correlator, later)] == ["port 10 is taken"]


def test_one_too_many_that_wait_is_dropped_and_an_equal_one_is_still_counted() -> None:
    correlator = Correlator(SETTINGS)
    taken = [correlator.add(about(f"web-{number}"), now=0, unix=UNIX) for number in range(30)]
    assert taken == [True] * 20 + [False] * 10
    assert correlator.add(about("web-3"), now=0, unix=UNIX)
    assert [series.count for series in pending(correlator, 0)] == [1, 1, 1, 2, *[1] * 16]


def test_a_dropped_event_is_forgotten_and_a_dropped_count_is_told_the_next_time() -> None:
    correlator = Correlator(SETTINGS)
    correlator.add(about("cart"), now=0, unix=UNIX)
    series = correlator.next(0)
    assert series is not None
    correlator.drop(series)
    assert len(correlator) == 0
    for now in (0, 1):
        correlator.add(WEB, now=now, unix=UNIX)
        pending(correlator, now)
    series = correlator.next(SETTINGS.event_repeat)
    assert series is not None
    correlator.drop(series)
    correlator.add(WEB, now=100, unix=UNIX)
    assert [each.count for each in pending(correlator, 200)] == [3]


def test_only_what_has_waited_for_longer_than_the_patience_is_overdue() -> None:
    correlator = Correlator(SETTINGS)
    correlator.add(about("web"), now=0, unix=UNIX)
    correlator.add(about("cart"), now=10, unix=UNIX)
    assert correlator.overdue(SETTINGS.event_patience) == []
    assert [series.event for series in correlator.overdue(SETTINGS.event_patience + 1)] == [about("web")]


def test_an_event_that_the_server_has_lost_is_written_anew_under_another_name() -> None:
    correlator = Correlator(SETTINGS)
    correlator.add(WEB, now=0, unix=UNIX)
    (series,) = pending(correlator, 0)
    name = series.name
    correlator.add(WEB, now=1, unix=UNIX + 1)
    assert correlator.next(61) is series
    correlator.lost(series, UNIX + 61)
    assert (series.written, series.count) == (0, 2)
    assert series.name != name
    assert pending(correlator, 61) == [series]


@pytest.mark.parametrize(
    ("note", "told"),
    [
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1024),
        ("x" * 1023 + "\N{SNOWMAN}", "x" * 1023),
        ("\udcff is no text", "? is no text"),
    ],
    ids=["fits", "too long", "a character is not halved", "what is no Unicode"],
)
def test_a_note_is_one_that_the_api_takes(note: str, told: str) -> None:
    assert cut(note, NOTE_BYTES) == told
    correlator = Correlator(replace(SETTINGS, event_similar=1))
    correlator.add(about("web", note), now=0, unix=UNIX)
    correlator.add(about("web", f"2{note}"), now=0, unix=UNIX)
    first, combined = (series.event.note for series in pending(correlator, 0))
    assert first == told
    assert combined == cut(f"{COMBINED}2{note}", NOTE_BYTES)


STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["web", "cart", "db"]),
        st.integers(min_value=0, max_value=40),
        st.sampled_from(["written", "dropped", "lost", "unanswered"]),
        st.floats(min_value=0, max_value=600),
    ),
    max_size=200,
)


@given(steps=STEPS)
def test_whatever_happens_what_is_remembered_is_bounded_and_counts_only_rise(steps: list[tuple[str, int, str, float]]) -> None:
    settings = KubernetesSettings(event_queue=8, event_similar=3, event_repeat=Duration(60))
    correlator = Correlator(settings)
    told: dict[str, int] = {}
    now = 0.0
    for name, number, fate, seconds in steps:
        now += seconds
        correlator.add(about(name, f"port {number}"), now=now, unix=UNIX + now)
        series = correlator.next(now)
        if series is not None and fate == "written":
            assert series.count > told.get(series.name, 0)
            told[series.name] = series.count
            correlator.written(series, series.count, now)
        elif series is not None and fate == "lost":
            correlator.lost(series, UNIX + now)
        elif series is not None and fate == "dropped":
            correlator.drop(series)
        assert len(correlator) <= 2 * settings.event_queue
