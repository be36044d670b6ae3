"""Recorded answers, replayed byte for byte in the place of a connection: what the reader makes of bytes is tested as a value.

What a real API server does is tested with a real one (tests/cluster). Here stand the bytes that none can be made to say.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from uproxy.sources.kubernetes.api_errors import ApiError, Gone, ServerFailed, Stalled, TooManyRequests, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

Query = dict[str, str]


class Silence(NamedTuple):
    """Nothing comes any more: the reader's patience ends, or the test."""


SILENCE: Final = Silence()


class Streamed:
    """The answer to a watch: chunks, an error in the middle, silence, or until the test says so; then it ends in order."""

    def __init__(self, *parts: bytes | ApiError | Silence | asyncio.Event) -> None:
        self.parts = parts


Answer = bytes | ApiError | Streamed | Silence


class Replay:
    """Gives the answers of each path in their order; after the last one nothing comes. asked: all requests so far.

    instead: paths whose answers are among those of another one.
    """

    def __init__(self, answers: Mapping[str, list[Answer]], instead: Mapping[str, str] | None = None) -> None:
        self.asked: list[tuple[str, Query]] = []
        self.open_streams = 0
        self.exhausted = asyncio.Event()
        self._asking = asyncio.Condition()
        self._answers = {path: deque(each) for path, each in answers.items()}
        self._instead = instead or {}

    def queries(self, path: str) -> list[Query]:
        """Give what a path was asked for."""
        return [query for asked, query in self.asked if asked == path]

    async def asked_for(self, number: int) -> None:
        """Wait until so many requests were made."""
        async with asyncio.timeout(10), self._asking:
            await self._asking.wait_for(lambda: len(self.asked) >= number)

    async def get(self, path: str, query: Mapping[str, str], timeout: float) -> bytes:  # noqa: ASYNC109 - as the real one
        """Give a whole answer."""
        try:
            async with asyncio.timeout(timeout):
                answer = await self._next(path, query)
        except TimeoutError:
            raise Unreachable("no answer", "the replay", reason="timeout") from None
        assert isinstance(answer, bytes), f"{query} was not expected to be a whole answer"
        return answer

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], *, stall: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give an answer in parts."""
        answer = await self._next(path, query)
        assert isinstance(answer, Streamed), f"{query} was not expected to be a stream"
        self.open_streams += 1
        try:
            yield self._parts(answer, stall)
        finally:
            self.open_streams -= 1

    async def _next(self, path: str, query: Mapping[str, str]) -> Answer:
        async with self._asking:
            self.asked.append((path, dict(query)))
            self._asking.notify_all()
        answers = self._answers.get(self._instead.get(path, path))
        if not answers:
            self.exhausted.set()
            await asyncio.Event().wait()
            raise AssertionError
        answer = answers.popleft()
        if isinstance(answer, ApiError):
            raise answer
        if isinstance(answer, Silence):
            await asyncio.Event().wait()
        return answer

    async def _parts(self, answer: Streamed, stall: float) -> AsyncIterator[bytes]:
        for part in answer.parts:
            if isinstance(part, ApiError):
                raise part
            if isinstance(part, Silence):
                await asyncio.sleep(stall)
                raise Stalled("nothing came", "the replay")
            if isinstance(part, asyncio.Event):
                await part.wait()
            else:
                yield part


def cut() -> Unreachable:
    return Unreachable("the connection broke", "the replay", reason="cut")


def refused() -> Unreachable:
    return Unreachable("connection refused", "the replay", reason="refused")


def gone() -> Gone:
    return Gone("410 Gone", "the replay")


def unavailable() -> ServerFailed:
    return ServerFailed("503 Service Unavailable", "the replay")


def too_many(retry_after: float = 0.0) -> TooManyRequests:
    return TooManyRequests("429 Too Many Requests", "the replay", retry_after=retry_after)
