"""Facts on stderr, one line each: `event key=value ...`, or the same as one JSON object.

Owns the format and the aggregation: the same event about the same subject is written once per interval,
then with the number of times. Uses the standard library's logging underneath, so that libraries' records
come out in the same form. Knows nothing of who reports what. Invariant: no fact is lost, it is written or
counted in a line that is.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uproxy.config import LoggingSettings

LOGGER: Final = "uproxy"
# What libraries say, by verbosity: Kubernetes' levels 4 for debugging and 6 for traces.
_LEVELS: Final = ((6, logging.DEBUG), (4, logging.INFO), (0, logging.WARNING))


class Log(Protocol):
    """What everything else sees of logging: a fact is an event name and its keys and values.

    A fact named `subject` says what the event is about: of such facts those are repetitions that differ in numbers
    only, and the last one's numbers are written. Without it, only facts equal in every value are repetitions.
    """

    def info(self, event: str, /, **facts: object) -> None:
        """Report that something happened as it should."""

    def warning(self, event: str, /, **facts: object) -> None:
        """Report that something is not as it should be; everything else goes on."""

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **facts: object) -> None:
        """Report a failure; exc_info only for what is a bug of ours."""


def configure(settings: LoggingSettings, stream: TextIO | None = None) -> Log:
    """Make the root logger write to stream (stderr), in the configured form, and give the Log above it.

    Replaces the root logger's handlers: called again, the former ones are flushed and closed. Libraries are heard
    from WARNING on, with a higher verbosity from INFO or DEBUG on.
    """
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        root.removeHandler(handler)
        handler.close()
    target = sys.stderr if stream is None else stream
    root.addHandler(Aggregation(_Lines(target, _FORMATS[settings.format]), settings.repeat_interval))
    level = next(level for least, level in _LEVELS if settings.verbosity >= least)
    root.setLevel(level)
    logging.getLogger(LOGGER).setLevel(min(level, logging.INFO))
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # a closed stderr is no reason to stop serving
    return StandardLog(logging.getLogger(LOGGER))


class StandardLog:
    """The Log over a logger of the standard library."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def info(self, event: str, /, **facts: object) -> None:
        """Report that something happened as it should."""
        self._logger.info(event, extra={"facts": facts})

    def warning(self, event: str, /, **facts: object) -> None:
        """Report that something is not as it should be; everything else goes on."""
        self._logger.warning(event, extra={"facts": facts})

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **facts: object) -> None:
        """Report a failure; exc_info only for what is a bug of ours."""
        self._logger.error(event, exc_info=exc_info, extra={"facts": facts})


class _Repeated:
    """A fact that was written at `since` and came again `times` times."""

    __slots__ = ("last", "since", "times")

    def __init__(self, since: float) -> None:
        self.since = since
        self.times = 0
        self.last: logging.LogRecord | None = None


class Aggregation(logging.Handler):
    """Hands each record on at once, unless an equal one was handed on less than an interval (seconds) ago: those are counted.

    What was counted is handed on as one record with `times` when the interval ends (by a timer that only runs
    while something is counted, or by the next fact) and when the process ends (logging.shutdown closes handlers).
    """

    def __init__(self, target: logging.Handler, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._target = target
        self._interval = interval
        self._clock = clock
        self._recent: dict[object, _Repeated] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record on, or count it. Called with the handler's lock held."""
        now = self._clock()
        self._expire(now)
        key = _identity(record)
        known = self._recent.get(key)
        if known is None:
            self._recent[key] = _Repeated(now)
            self._target.handle(record)
            return
        known.times += 1
        known.last = record
        if self._timer is None:
            self._start_timer(known.since + self._interval - now)

    def _expire(self, now: float) -> None:
        """Write out what is due. What was written with times opens an interval of its own."""
        due = []
        for key, repeated in self._recent.items():  # oldest first
            if repeated.since + self._interval > now:
                break
            due.append(key)
        for key in due:
            repeated = self._recent.pop(key)
            if repeated.last is not None:
                self._hand_on(repeated)
                self._recent[key] = _Repeated(now)

    def _hand_on(self, repeated: _Repeated) -> None:
        if repeated.last is not None:
            repeated.last.times = repeated.times
            self._target.handle(repeated.last)

    def _start_timer(self, seconds: float) -> None:
        self._timer = threading.Timer(max(seconds, 0), self._on_timer)
        self._timer.daemon = True
        self._timer.name = "log-repetitions"
        self._timer.start()

    def _on_timer(self) -> None:
        with self._own_lock():
            self._timer = None
            now = self._clock()
            self._expire(now)
            waiting = [repeated.since for repeated in self._recent.values() if repeated.last is not None]
            if waiting:
                self._start_timer(min(waiting) + self._interval - now)

    def flush(self) -> None:
        """Write out everything that was counted."""
        with self._own_lock():
            for repeated in self._recent.values():
                self._hand_on(repeated)
            self._recent.clear()
            self._target.flush()

    def close(self) -> None:
        """Write out everything that was counted and end the timer."""
        self.flush()
        with self._own_lock():
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        super().close()

    def _own_lock(self) -> threading.RLock:
        if self.lock is None:
            raise RuntimeError("a handler has a lock from its construction on")
        return self.lock


def _identity(record: logging.LogRecord) -> object:
    """Tell which records are the same fact."""
    facts: Mapping[str, object] = getattr(record, "facts", {})
    numbers: tuple[type, ...] = (int, float) if "subject" in facts else ()
    about = tuple(f"{key}={value}" for key, value in facts.items() if type(value) not in numbers)
    return (record.name, record.levelno, record.getMessage(), about)


class _Lines(logging.StreamHandler[TextIO]):
    """Writes each record as one line."""

    def __init__(self, stream: TextIO, form: Callable[[dict[str, Any]], str]) -> None:
        super().__init__(stream)
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        return self._form(_facts_of(record))


def _facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """Everything that a line says, in its order."""
    own = hasattr(record, "facts")
    facts: dict[str, Any] = {"event": record.getMessage() if own else "library_message"}
    if record.levelno != logging.INFO:
        facts["level"] = record.levelname.lower()
    if own:
        facts.update({f"{key}_" if key in _RESERVED else key: value for key, value in record.__dict__["facts"].items()})
    else:
        facts.update(logger=record.name, message=record.getMessage())
    if hasattr(record, "times") and record.__dict__["times"] > 1:
        facts["times"] = record.__dict__["times"]
    if record.exc_info and record.exc_info[1] is not None:
        facts["traceback"] = logging.Formatter().formatException(record.exc_info)
    moment = datetime.fromtimestamp(record.created, UTC)
    facts["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return facts


_RESERVED: Final = frozenset({"event", "level", "times", "time", "traceback"})

_is_plain: Final = re.compile(r"[^\s\"'=\\]+").fullmatch


def _as_text(facts: dict[str, Any]) -> str:
    event = facts.pop("event")
    return " ".join((_quoted(event), *(f"{key}={_quoted(value)}" for key, value in facts.items())))


def _quoted(value: object) -> str:
    """Write a value so that it is one word: what is not gets JSON's quotes and escapes (no control character survives)."""
    text = _text(value)
    if _is_plain(text) and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if type(value) in {tuple, list, set, frozenset}:
        return ",".join(map(_text, value))  # type: ignore[call-overload]  # one of the four, all iterable
    return str(value)


def _as_json(facts: dict[str, Any]) -> str:
    return json.dumps({key: _plain(value) for key, value in facts.items()}, ensure_ascii=False)


def _plain(value: object) -> object:
    """Give what JSON can say of a value: numbers, booleans, null and lists as such, anything else as text."""
    if value is None or type(value) in {bool, int, float}:
        return value
    if type(value) in {tuple, list, set, frozenset}:
        return [_plain(each) for each in value]  # type: ignore[attr-defined]  # one of the four, all iterable
    return str(value)


_FORMATS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {"text": _as_text, "json": _as_json}
