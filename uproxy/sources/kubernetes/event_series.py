"""Which Events the API server is told of, and when: equal ones become one with a count.

Owns what waits to be written and what was written lately, both bounded. Knows nothing of requests; time is a
parameter. Invariant: an Event that occurs again while it is remembered never becomes a second object.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

if TYPE_CHECKING:
    from uproxy.config import KubernetesSettings
    from uproxy.event_recorder import ClusterEvent

COMBINED: Final = "(combined from similar events): "
"""What the note of an Event that stands for others begins with: client-go's words."""
NAME_BYTES: Final = 253
"""The longest name of an object (RFC 1123 subdomain)."""
NOTE_BYTES: Final = 1024
"""The longest note that the API takes (pkg/apis/core/validation/events.go)."""


class Series:
    """One Event of the API: when it was first and last seen (Unix seconds), how often, and what the server knows of it.

    written: the count that the server has, 0 when it has no such Event. due: when it is to be written, monotonic seconds.
    """

    __slots__ = ("count", "due", "event", "first", "identity", "last", "name", "seen", "told", "written")

    def __init__(self, identity: ClusterEvent, event: ClusterEvent, name: str, now: float, unix: float) -> None:
        self.identity = identity
        self.event = event
        self.name = name
        self.count = 1
        self.written = 0
        self.first = self.last = unix
        self.seen = self.told = self.due = now

    def again(self, now: float, unix: float) -> None:
        """Count one more."""
        self.count += 1
        self.seen = now
        self.last = unix


class Correlator:
    """Decides what is written. Times named now are monotonic seconds, unix are Unix seconds."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._waiting: dict[ClusterEvent, Series] = {}
        self._known: dict[ClusterEvent, Series] = {}  # least recently written first
        self._similar: Counter[ClusterEvent] = Counter()
        self._stamp = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._known)

    def add(self, event: ClusterEvent, now: float, unix: float) -> bool:
        """Take an Event in; False when it is dropped because too many others wait."""
        self._forget(now)
        identity = self._identify(_with_note(event, event.note))
        series = self._waiting.get(identity)
        if series is not None:
            series.again(now, unix)
            return True
        if len(self._waiting) >= self._settings.event_queue:
            return False
        series = self._known.pop(identity, None)
        if series is None:
            series = self._begin(identity, event, now, unix)
        else:
            series.again(now, unix)
            series.due = max(now, series.told + self._settings.event_repeat)
        self._waiting[identity] = series
        return True

    def next(self, now: float) -> Series | None:
        """Give what is to be written now, the one that has waited longest first."""
        return next((series for series in self._waiting.values() if series.due <= now), None)

    def wait(self, now: float) -> float | None:
        """Give the seconds until something is to be written, None when nothing waits."""
        return max(0.0, min(series.due for series in self._waiting.values()) - now) if self._waiting else None

    def written(self, series: Series, count: int, now: float) -> None:
        """Note that the server has this Event with this count; what came meanwhile is told later."""
        series.written = count
        series.told = now
        series.due = now + self._settings.event_repeat
        if series.count == count:
            self._remember(series)

    def lost(self, series: Series, unix: float) -> None:
        """Note that the server has this Event no more (it keeps them for an hour): it is written anew."""
        series.written = 0
        series.name = self._name(series.event, unix)

    def drop(self, series: Series) -> None:
        """Give up writing this Event."""
        if series.written:
            self._remember(series)
        else:
            del self._waiting[series.identity]
            self._end(series)

    def overdue(self, now: float) -> list[Series]:
        """Give what has waited longer than anybody's patience."""
        return [series for series in self._waiting.values() if now - series.due > self._settings.event_patience]

    def _identify(self, event: ClusterEvent) -> ClusterEvent:
        """Give what equal Events have in common. Once too many differ in nothing but their notes, the notes do not count any more."""
        if event in self._waiting or event in self._known:
            return event
        if self._similar[_bare(event)] < self._settings.event_similar:
            return event
        return replace(event, note=COMBINED)

    def _begin(self, identity: ClusterEvent, event: ClusterEvent, now: float, unix: float) -> Series:
        self._similar[_bare(event)] += 1
        told = _with_note(event, COMBINED + event.note) if identity.note == COMBINED else identity
        return Series(identity, told, self._name(event, unix), now, unix)

    def _name(self, event: ClusterEvent, unix: float) -> str:
        """Make a name as client-go does: the object's own and the time in nanoseconds, of which no two are equal here."""
        self._stamp = max(self._stamp + 1, int(unix * 1e9))
        ending = f".{self._stamp:x}"
        return event.key.name[: NAME_BYTES - len(ending)].rstrip(".-") + ending

    def _remember(self, series: Series) -> None:
        """Keep what has been written, so that the next equal one only counts."""
        del self._waiting[series.identity]
        while len(self._known) >= self._settings.event_queue:
            self._end(self._known.pop(next(iter(self._known))))
        self._known[series.identity] = series

    def _forget(self, now: float) -> None:
        """End what has not occurred for a while."""
        while self._known:
            oldest = next(iter(self._known.values()))
            if now - oldest.seen <= self._settings.event_forget:
                return
            self._end(self._known.pop(oldest.identity))

    def _end(self, series: Series) -> None:
        bare = _bare(series.event)
        self._similar[bare] -= 1
        if not self._similar[bare]:
            del self._similar[bare]


def _bare(event: ClusterEvent) -> ClusterEvent:
    return replace(event, note="")


def _with_note(event: ClusterEvent, note: str) -> ClusterEvent:
    return replace(event, note=cut(note, NOTE_BYTES))


def cut(text: str, limit: int) -> str:
    """Give as many characters as fit into limit bytes of UTF-8; what UTF-8 cannot say becomes a question mark."""
    return text.encode(errors="replace")[:limit].decode(errors="ignore")
