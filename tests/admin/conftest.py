"""Asynchronous tests of the servers run on each of the two event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.dataplane.running import LOOPS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give the loops by name."""
    return LOOPS
