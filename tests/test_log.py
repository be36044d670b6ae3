"""The log: one line per fact, in text and JSON; repetitions counted; nothing lost."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from uproxy.config import LoggingSettings
from uproxy.config_rules import Duration
from uproxy.core.model import Endpoint, ObjectKey
from uproxy.log import Aggregation, Log, configure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = tuple(root.handlers), root.level, logging.raiseExceptions
    for handler in handlers:
        root.removeHandler(handler)
    yield
    for handler in tuple(root.handlers):
        handler.close()
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.captureWarnings(capture=False)


def log_into(stream: io.StringIO, form: str = "text", interval: str = "10s") -> Log:
    return configure(LoggingSettings(format=form, repeat_interval=Duration.parse(interval)), stream)


def lines(stream: io.StringIO) -> list[str]:
    """Give the lines without their times of day, which every line ends with."""
    found = stream.getvalue().splitlines()
    assert all(" time=2" in line for line in found)
    return [line.rpartition(" time=")[0] for line in found]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("web", "web"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("line\nbreak", '"line\\nbreak"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("\x9b31m", '"\\u009b31m"'),
        ("\u2028", '"\\u2028"'),
        ("Größe", "Größe"),
        (True, "true"),
        (None, "null"),
        (0.25, "0.25"),
        ([1, "b"], "1,b"),
        (ObjectKey("default", "web"), "default/web"),
        (Endpoint("fd00::1", 80), "[fd00::1]:80"),
    ],
)
def test_a_value_is_one_word_whatever_is_in_it(value: object, written: str) -> None:
    stream = io.StringIO()
    log_into(stream).info("seen", value=value)
    assert lines(stream) == [f"seen value={written}"]


def test_a_line_starts_with_the_event_and_names_the_level_unless_it_is_info() -> None:
    stream = io.StringIO()
    log = log_into(stream)
    log.info("started", pid=7)
    log.warning("refused", subject="Service default/web", reason="no address")
    assert lines(stream) == ["started pid=7", 'refused level=warning subject="Service default/web" reason="no address"']


def test_json_gives_one_object_per_line_with_numbers_and_lists_as_such() -> None:
    stream = io.StringIO()
    log_into(stream, "json").warning("seen", number=3, ratio=0.5, ok=True, key=ObjectKey("a", "b"), many=("x", 1))
    found = json.loads(stream.getvalue())
    assert found.pop("time").endswith("Z")
    assert found == {"event": "seen", "level": "warning", "number": 3, "ratio": 0.5, "ok": True, "key": "a/b", "many": ["x", 1]}


def test_an_exception_is_part_of_its_one_line() -> None:
    stream = io.StringIO()
    try:
        _ = 1 // 0
    except ZeroDivisionError as error:
        log_into(stream).error("handler_failed", exc_info=error)
    assert len(stream.getvalue().splitlines()) == 1
    assert "ZeroDivisionError" in stream.getvalue()


def test_facts_named_like_what_every_line_has_keep_their_values() -> None:
    stream = io.StringIO()
    log_into(stream).info("seen", level="high", time="noon")
    assert lines(stream) == ["seen level_=high time_=noon"]


def test_a_librarys_warning_comes_out_in_the_same_form_and_its_chatter_does_not() -> None:
    stream = io.StringIO()
    log_into(stream)
    logging.getLogger("aiohttp.server").info("hello")
    logging.getLogger("aiohttp.server").warning("cannot %s", "answer")
    assert lines(stream) == ['library_message level=warning logger=aiohttp.server message="cannot answer"']


def test_repeated_facts_are_written_once_and_then_with_their_number_when_the_process_goes_on_silently() -> None:
    stream, written = Signalling(2), threading.Event()
    stream.reached = written
    log = log_into(stream, interval="50ms")
    for _ in range(5):
        log.warning("bind_failed", address="127.0.0.1:1")
    assert written.wait(5)
    assert lines(stream) == ["bind_failed level=warning address=127.0.0.1:1", "bind_failed level=warning address=127.0.0.1:1 times=4"]


def test_repetitions_about_a_subject_may_differ_in_numbers_and_the_last_ones_are_written() -> None:
    stream = io.StringIO()
    log = log_into(stream)
    log.warning("failed", subject="a", attempt=1)
    log.warning("failed", subject="b", attempt=1)
    log.warning("failed", subject="a", attempt=2)
    log.warning("failed", subject="a", attempt=3)
    log.warning("failed", subject="a", reason="another")
    logging.getLogger().handlers[0].flush()
    assert lines(stream) == [
        "failed level=warning subject=a attempt=1",
        "failed level=warning subject=b attempt=1",
        "failed level=warning subject=a reason=another",
        "failed level=warning subject=a attempt=3 times=2",
    ]


def test_facts_that_differ_in_a_value_are_no_repetitions() -> None:
    stream = io.StringIO()
    log = log_into(stream)
    log.info("opened", port=1)
    log.info("opened", port=2)
    assert lines(stream) == ["opened port=1", "opened port=2"]


def test_the_next_fact_brings_what_was_counted_with_it() -> None:
    now = [0.0]
    seen: list[tuple[str, int]] = []
    handler = Aggregation(Collecting(seen), interval=10, clock=lambda: now[0])
    for moment, event in ((0, "a"), (1, "a"), (2, "a"), (11, "b"), (12, "a"), (22, "b"), (23, "a")):
        now[0] = moment
        handler.handle(logging.makeLogRecord({"name": "x", "levelno": 20, "msg": event}))
    handler.close()
    assert seen == [("a", 1), ("a", 2), ("b", 1), ("a", 1), ("b", 1), ("a", 1)]


def test_nothing_that_was_counted_is_lost_when_the_process_ends() -> None:
    program = (
        "from uproxy.config import LoggingSettings; from uproxy.log import configure\n"
        "log = configure(LoggingSettings())\n"
        "for _ in range(1000): log.info('again')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, last = ended.stderr.splitlines()
    assert first.startswith("again time=")
    assert last.startswith("again times=999 time=")


def test_a_closed_stderr_stops_nobody() -> None:
    stream = io.StringIO()
    log = log_into(stream)
    stream.close()
    log.info("unheard")


class Signalling(io.StringIO):
    """Sets `reached` when so many lines have been written."""

    reached: threading.Event

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str, /) -> int:
        """Write and look whether the number is reached."""
        written = super().write(text)
        if self.getvalue().count("\n") >= self._number:
            self.reached.set()
        return written


class Collecting(logging.Handler):
    """Notes the event and times of each record."""

    def __init__(self, seen: list[tuple[str, int]]) -> None:
        super().__init__()
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        """Note the record."""
        self._seen.append((record.getMessage(), getattr(record, "times", 1)))
