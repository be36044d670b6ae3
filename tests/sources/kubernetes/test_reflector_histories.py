"""Random histories of a collection, with every fault of streams and servers, through a reflector and a naive model.

The history answers in bytes and knows nothing of reflectors; the model is a dictionary. After the faults end, what the
sink was told is what the model holds, and stays so. A server that was restored from a backup has been seen to be away:
one whose history changes without that cannot be told from one that is well, neither here nor by any other client.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.core.documents import Document
from tests.sources.kubernetes import spoken
from tests.sources.kubernetes.reflecting import Reflection, quick, reflecting
from tests.sources.kubernetes.replay import cut, gone, refused, too_many, unavailable
from uproxy.config_rules import Duration
from uproxy.sources.kubernetes.api_errors import ApiError, Garbled, Refused, Stalled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

NAMES = ("a", "b", "c", "d", "e")
SERVED = ("10.96.0.1", "10.96.0.2", "10.96.0.3")
NOT_SERVED = ("headless", "external")
REFUSED = "refused"
CONFIG = quick(initial_events_timeout=Duration(0.02), stall_timeout=Duration(0.02))
QUIET_SECONDS = 3.0

Objects = dict[str, tuple[int, str]]
"""The version and the variant of each object."""


class Change(NamedTuple):
    """An event of the history."""

    version: int
    kind: str
    name: str
    variant: str


def document(name: str, version: int, variant: str) -> Document:
    made = spoken.service(name, version, variant if variant in SERVED else "10.96.0.9")
    if variant == "headless":
        made["spec"]["clusterIP"] = "None"
    elif variant == "external":
        made["spec"]["type"] = "ExternalName"
    elif variant == REFUSED:
        made["spec"]["type"] = "Nonsense"
    return made


class Stream:
    """An open watch: bytes on their way, then an end. patience: seconds after which a silent one is given up; 0: never."""

    def __init__(self, position: int, patience: float) -> None:
        self.position = position
        self.patience = patience
        self.bytes = b""
        self.over = False
        self.end: ApiError | None = None
        self.news = asyncio.Event()

    def send(self, more: bytes) -> None:
        if not self.over:
            self.bytes += more
            self.news.set()

    def finish(self, end: ApiError | None) -> None:
        self.over, self.end = True, end
        self.news.set()


class History:
    """What happened to a collection, and the answers that follow from it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.version = 10
        self.compacted = 0
        self.objects: Objects = {}
        self.ever: dict[str, set[str]] = {name: set() for name in NAMES}
        self.changes: list[Change] = []
        self.faults: list[ApiError] = []
        self.away = False
        self.busy = True
        self.streamed = "offered"
        self.lists: dict[str, tuple[list[Document], int]] = {}
        self.backup: tuple[int, Objects, list[Change]] = (10, {}, [])
        self.streams: list[Stream] = []

    def put(self, name: str, variant: str) -> None:
        self._record(Change(self.version + self.random.randint(1, 3), "MODIFIED" if name in self.objects else "ADDED", name, variant))
        self.objects[name] = (self.version, variant)
        self.ever[name].add(variant)

    def delete(self, name: str) -> None:
        if name in self.objects:
            _, variant = self.objects.pop(name)
            self._record(Change(self.version + 1, "DELETED", name, variant))

    def _record(self, change: Change) -> None:
        self.version = change.version
        self.changes.append(change)
        for stream in self.streams:
            if change.version > stream.position:
                stream.send(self.line(change))

    def line(self, change: Change) -> bytes:
        return spoken.event(change.kind, document(change.name, change.version, change.variant))

    def bookmark(self) -> None:
        for stream in self.streams:
            if self.version >= stream.position:
                stream.send(spoken.bookmark(self.version))

    def duplicate(self) -> None:
        """Send the last event once more."""
        if self.changes and self.changes[-1].version == self.version:
            for stream in self.streams:
                if self.version > stream.position:
                    stream.send(self.line(self.changes[-1]))

    def cut(self, keep: int, *, orderly: bool) -> None:
        """End every stream after so many more bytes."""
        for stream in self.streams:
            stream.bytes = stream.bytes[:keep]
            stream.finish(None if orderly else cut())
        self.streams.clear()

    def garble(self, garbage: bytes) -> None:
        """Send garbage, or damage what is on its way."""
        for stream in self.streams:
            stream.send(garbage)

    def compact(self) -> None:
        self.compacted = self.version
        self.lists.clear()

    def save(self) -> None:
        self.backup = (self.version, dict(self.objects), list(self.changes))

    def restore(self, later: int) -> None:
        """Go back to the backup; a new server writes something of its own before it answers.

        A restore of which a client sees nothing at all is in test_reflector.py: whether it can be told depends on what was saved when.
        """
        self.cut(0, orderly=False)
        version, objects, changes = self.backup
        self.version, self.objects, self.changes = version + later, dict(objects), list(changes)
        self.lists.clear()
        self.compacted = min(self.compacted, version)
        self.away = True

    def restart(self) -> None:
        """Forget what happened before, as a watch cache does."""
        self.cut(0, orderly=False)
        self.compact()
        self.away = True

    def meanwhile(self) -> None:
        """Let something happen between a request and what comes next."""
        if self.busy and self.random.random() < 0.5:
            if self.objects and self.random.random() < 0.5:
                self.delete(self.random.choice(sorted(self.objects)))
            else:
                self.put(self.random.choice(NAMES), self.random.choice(SERVED))

    def heal(self) -> None:
        self.busy = False
        self.faults.clear()
        self.streamed = "offered"

    async def get(self, path: str, query: Mapping[str, str], timeout: float) -> bytes:  # noqa: ASYNC109, ARG002 - as the real one
        self._check()
        name = query.get("fieldSelector", "").removeprefix("metadata.name=") if "/namespaces/shop/" in path else ""
        if name:
            return spoken.listed(*(each for each in self._documents() if each["metadata"]["name"] == name), version=self.version)
        token = query.get("continue", "")
        items, version = self.lists.pop(token, ([], 0)) if token else (self._documents(), self.version)
        if token and not version:
            raise gone()
        limit = int(query.get("limit", "1000"))
        more = f"t{self.random.random()}" if len(items) > limit else ""
        if more:
            self.lists[more] = (items[limit:], version)
        self.meanwhile()
        return spoken.listed(*items[:limit], version=version, more=more)

    def _documents(self) -> list[Document]:
        return [document(name, version, variant) for name, (version, variant) in sorted(self.objects.items())]

    def _check(self) -> None:
        """Fail as the next fault says. A server that was away was so for longer than it takes to notice."""
        if self.away:
            self.away = False
            raise refused()
        if self.faults:
            raise self.faults.pop(0)

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], *, stall: float) -> AsyncIterator[AsyncIterator[bytes]]:  # noqa: ARG002 - as the real one
        self._check()
        stream = self._everything() if "sendInitialEvents" in query else self._after(int(query["resourceVersion"]), stall)
        try:
            yield self._chunks(stream)
        finally:
            if stream in self.streams:
                self.streams.remove(stream)

    def _everything(self) -> Stream:
        if self.streamed == "refused":
            raise Refused("422 Unprocessable Entity", "the history", reason="invalid")
        stream = Stream(self.version, 0)
        stream.send(b"".join(map(spoken.added, self._documents())))
        self.streams.append(stream)
        self.meanwhile()
        if self.streamed == "offered":
            stream.send(spoken.initial_events_end(self.version))
        self.meanwhile()
        return stream

    def _after(self, position: int, stall: float) -> Stream:
        if position < self.compacted:
            if self.random.random() < 0.5:
                raise gone()
            stream = Stream(position, 0)
            stream.send(spoken.error(410, "Expired"))
            stream.finish(None)
            return stream
        stream = Stream(position, stall if position > self.version else 0)
        stream.send(b"".join(self.line(change) for change in self.changes if change.version > position))
        self.streams.append(stream)
        self.meanwhile()
        return stream

    async def _chunks(self, stream: Stream) -> AsyncIterator[bytes]:
        """Give what is sent, in pieces of any size."""
        while True:
            while stream.bytes:
                size = self.random.choice([1, 7, 100, 1000, 100_000])
                chunk, stream.bytes = stream.bytes[:size], stream.bytes[size:]
                yield chunk
                if self.random.random() < 0.3:
                    await asyncio.sleep(0)
            if stream.over:
                if stream.end is not None:
                    raise stream.end
                return
            stream.news.clear()
            try:
                async with asyncio.timeout(stream.patience or None):
                    await stream.news.wait()
            except TimeoutError:
                raise Stalled("nothing came", "the history") from None


class Step(NamedTuple):
    """Something that happens; then the reflector gets so many turns of the loop."""

    what: str
    arguments: tuple[object, ...]
    turns: int


ERRORS = {
    "refused": refused,
    "unavailable": unavailable,
    "too many": too_many,
    "garbled": lambda: Garbled("what is this?", "the history"),
    "cut": cut,
    "gone": gone,
}
GARBAGE = (
    b"\x00\xff\n",
    b'{"type":"ADDED","object":{"meta\n',
    b"\n\n",
    b'{"type":"WHAT","object":{}}\n',
    spoken.error(500, "InternalError"),
)

names = st.sampled_from(NAMES)
happenings = st.one_of(
    st.tuples(st.just("put"), names, st.sampled_from([*SERVED, *SERVED, *NOT_SERVED, REFUSED])),
    st.tuples(st.just("put"), names, st.sampled_from(SERVED)),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("bookmark")),
    st.tuples(st.just("duplicate")),
    st.tuples(st.just("cut"), st.integers(0, 1000), st.booleans()),
    st.tuples(st.just("garble"), st.sampled_from(GARBAGE)),
    st.tuples(st.just("compact")),
    st.tuples(st.just("save")),
    st.tuples(st.just("restore"), st.integers(0, 5)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("error"), st.sampled_from(sorted(ERRORS))),
    st.tuples(st.just("streamed"), st.sampled_from(["offered", "refused", "without end"])),
)
steps = st.builds(lambda what, turns: Step(what[0], what[1:], turns), happenings, st.sampled_from([0, 0, 1, 3, 10, 50]))


def happen(history: History, step: Step) -> None:
    if step.what == "error":
        history.faults.append(ERRORS[str(step.arguments[0])]())
    elif step.what == "streamed":
        history.streamed = str(step.arguments[0])
    elif step.what == "cut":
        keep, orderly = step.arguments
        history.cut(int(str(keep)), orderly=bool(orderly))
    else:
        getattr(history, step.what)(*step.arguments)


def is_as_it_should_be(history: History, told: Mapping[str, str]) -> bool:
    """Compare what was told with what there is: a refused object may be served in any version that it ever had, or not at all."""
    for name in NAMES:
        _, variant = history.objects.get(name, (0, "absent"))
        if variant == REFUSED:
            right = name not in told or told[name] in history.ever[name]
        else:
            right = told.get(name) == (variant if variant in SERVED else None)
        if not right:
            return False
    return told.keys() <= {*NAMES, "last"}


async def replay(seed: int, happened: list[Step], *, streamed: bool) -> None:
    history = History(seed)
    async with reflecting(Reflection(history, CONFIG, streamed=streamed)) as found:
        for step in happened:
            happen(history, step)
            for _ in range(step.turns):
                await asyncio.sleep(0)
            told = found.told.addresses()
            assert all(address in history.ever[name] for name, address in told.items()), "what was told has never been"
        history.heal()
        async with asyncio.timeout(QUIET_SECONDS):
            await found.told.until(lambda: found.lists > 0)
            await found.told.until(lambda: is_as_it_should_be(history, found.told.addresses()))
            history.ever["last"] = set()
            history.put("last", SERVED[0])
            await found.told.until(lambda: "last" in found.told.addresses())
        for _ in range(100):
            await asyncio.sleep(0)
        assert is_as_it_should_be(history, found.told.addresses())
        assert len(history.streams) <= 1


PUT, CUT = Step("put", ("a", SERVED[0]), 50), Step("cut", (0, False), 0)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.lists(steps, max_size=40), st.booleans())
@example(1, [PUT, Step("save", (), 0), Step("put", ("a", SERVED[1]), 50), Step("restore", (0,), 50)], False)
@example(1, [PUT, Step("save", (), 0), *[Step("put", ("b", SERVED[1]), 50)] * 5, Step("restore", (1,), 0), PUT], True)
@example(1, [PUT, CUT, Step("delete", ("a",), 0), Step("compact", (), 50)], False)
@example(1, [*[Step("put", (name, SERVED[0]), 0) for name in NAMES], Step("compact", (), 3)], False)
def test_when_the_faults_end_what_was_told_is_what_there_is(seed: int, happened: list[Step], streamed: bool) -> None:  # noqa: FBT001 - drawn
    asyncio.run(replay(seed, happened, streamed=streamed))
