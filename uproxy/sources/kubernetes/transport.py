"""What lists and watches need of an API server, and nothing more: whole answers and streams of bytes.

Owns this seam alone: client.py is the real thing behind it, tests replay recorded bytes through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager


class Transport(Protocol):
    """An API server that can be asked. Both methods raise ApiError and nothing else."""

    async def get(self, path: str, query: Mapping[str, str], timeout: float) -> bytes:  # noqa: ASYNC109 - the client's own deadline
        """Give the whole body of an answer; timeout: seconds for all of it."""

    def stream(self, path: str, query: Mapping[str, str], *, stall: float) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the chunks of an answer as they come, of any size; after `stall` seconds without one it is Stalled."""
