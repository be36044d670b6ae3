"""What the summary says of what was counted, and what the live view draws."""

from __future__ import annotations

import socket

import msgspec
import pytest

from bench.live.drawing import ASCII, BLOCKS, amount, bar, marks, span, sparkline
from bench.live.failures import reason
from bench.live.lane import Site
from bench.live.options import parse
from bench.live.resolve import Address
from bench.live.schedule import Schedule
from bench.live.summary import Summary, as_json, as_text, summary
from bench.live.tally import LOST, Tally
from bench.live.view import line, screen

V4 = Address(socket.AF_INET, ("127.0.0.1", 53))
V6 = Address(socket.AF_INET6, ("::1", 53, 0, 0))


def site(command: str, *addresses: Address) -> Site:
    return Site(parse(command.split()), list(addresses or [V4]), Tally())


def count(where: Site, answered: int = 0, **reasons: int) -> None:
    for number in range(answered):
        where.tally.begin()
        where.tally.answer(0.001 * (number + 1))
    for words, times in reasons.items():
        for _ in range(times):
            where.tally.begin()
            where.tally.fail(words.replace("_", " "))


def summed_up(where: Site, schedule: Schedule | None = None) -> Summary:
    return summary(where, schedule or Schedule(100, 10), 10, interrupted=False)


def test_the_table_says_what_was_counted() -> None:
    where = site("tcp web:53 --duration 1s")
    count(where, answered=90, connection_refused=7, connection_reset=3)
    text = as_text(summed_up(where), BLOCKS)

    rows = dict(row.split(maxsplit=1) for row in text.split("\n\n")[0].splitlines())
    assert rows["tcp"] == "web:53 (127.0.0.1)"
    assert rows["rate"] == "100.0/s of 100/s, 1 s"
    assert rows["sent"] == "100"
    assert rows["answered"] == "90 (90 %)"
    assert rows["failed"] == "10 (10 %): connection refused 7, connection reset 3"
    assert rows["p50"] == "45.1 ms"
    assert rows["max"] == "90.0 ms"


def test_the_histogram_is_drawn_to_the_scale_of_its_greatest_bar() -> None:
    where = site("tcp web:53")
    for milliseconds in (0.9, 1.5, 3, 3, 3, 7, 7, 7, 7, 7):
        where.tally.begin()
        where.tally.answer(milliseconds / 1000)

    assert as_text(summed_up(where), ASCII).split("\n\n")[1].splitlines() == [
        "up to 1.00 ms  1  ########",
        "up to 2.00 ms  1  ########",
        f"up to 5.00 ms  3  {24 * '#'}",
        f"up to 10.0 ms  5  {40 * '#'}",
    ]


def test_datagrams_without_an_answer_are_lost_and_no_failures() -> None:
    where = site("udp web:53")
    count(where, answered=8, no_answer_in_time=2)
    found = summed_up(where)

    assert (found.lost, found.failed, found.reasons, found.troubled) == (2, 0, {}, True)
    assert "lost         2 (20 %)" in as_text(found, BLOCKS)


def test_without_any_answer_the_summary_says_where_nothing_was() -> None:
    where = site("tcp web:53", V6, V4)
    count(where, connection_refused=5)

    assert as_text(summed_up(where), BLOCKS).endswith("Nothing answered at web:53 (::1, 127.0.0.1): connection refused 5.")


def test_a_name_with_other_addresses_is_worth_a_hint_where_datagrams_went_to_the_first() -> None:
    where = site("udp web:53", V6, V4)
    count(where, no_answer_in_time=5)

    assert as_text(summed_up(where), BLOCKS).endswith(
        f"Nothing answered at web:53 (::1): {LOST}.\n\nAll went to ::1: give 127.0.0.1 in place of the name to try that."
    )


def test_a_shortfall_is_said_with_whose_it_was() -> None:
    where, schedule = site("tcp web:53 --connections 3"), Schedule(100, 10)
    schedule.take(2.0, idle_since=1.0)
    text = as_text(summed_up(where, schedule), BLOCKS)

    assert "The target did not keep up: 100 units were not sent, for all 3 connections were waiting." in text
    assert "This program did not keep up: 90 units were not sent." in text
    assert "not sent     190" in text


def test_json_is_one_line_that_holds_everything() -> None:
    where = site("udp web:53")
    count(where, answered=3, connection_refused=1)
    found = summed_up(where)

    assert "\n" not in as_json(found)
    assert msgspec.json.decode(as_json(found), type=Summary) == found


def test_a_second_is_told_by_what_happened_in_it() -> None:
    where, schedule = site("tcp web:53"), Schedule(100, 10)
    count(where, answered=50)
    line(where, schedule, 1)
    count(where, answered=2, connection_reset=1)
    where.tally.begin()

    assert line(where, schedule, 2) == "   2 s  4/s of 100/s  in flight 1  failed 1  p99 2.00 ms"


def test_the_screen_draws_the_last_minute() -> None:
    where, schedule = site("tcp web:53 --rate 7"), Schedule(7, 10)
    for second in range(100):
        count(where, answered=second % 2, connection_reset=1)
        where.tally.next_second()
    rows = [row.split("  ", 1) for row in screen(where, schedule, 4.2, ASCII).splitlines()]

    drawn = {title: row.strip() for title, row in rows}
    assert drawn["tcp"] == "web:53  4.2 s of 10 s"
    assert drawn["rate"] == "2/s of 7/s"
    assert drawn["failed"] == "100  connection reset 100"
    assert drawn["rate 60 s"] == 30 * "=@"
    assert drawn["fail 60 s"] == 60 * "@"


@pytest.mark.parametrize(("value", "text"), [(1, "1 us"), (999, "999 us"), (1000, "1.00 ms"), (12_345, "12.3 ms"), (2_500_000, "2.50 s")])
def test_times_have_three_digits(value: int, text: str) -> None:
    assert span(value) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1 << 50, "1024 TiB")])
def test_sizes_have_their_unit(size: int, text: str) -> None:
    assert amount(size) == text


def test_what_is_not_nothing_can_be_seen() -> None:
    assert bar(0.0001, 40, BLOCKS) == "▌"
    assert sparkline([0, 1, 1000], BLOCKS) == " ▁█"
    assert sparkline([], BLOCKS) == ""


def test_marks_are_those_that_the_output_can_show() -> None:
    assert marks("utf-8") == BLOCKS
    assert all(marks(encoding) == ASCII for encoding in ("ascii", "latin-1", None, "no-such"))


def test_an_error_without_words_of_ours_has_the_systems() -> None:
    assert reason(OSError(95, "whatever it says here")) == "operation not supported"
