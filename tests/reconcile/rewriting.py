"""A redirect back end without a kernel: it remembers what was applied, and refuses or waits when told to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uproxy.core.ruleset import Capture
from uproxy.errors import RedirectError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uproxy.core.model import RouteKey


class Rewriting:
    """Looks like the nftables back end to the reconciler. The kernel side of it is tested where the real one is."""

    name = "rewriting"
    rewrites = True
    transparent = True
    keeps_clients = True
    mark = 0x800

    def __init__(self) -> None:
        self.applied: list[Capture] = []
        self.inherited: Mapping[RouteKey, int] = {}
        self.intact = True
        self.refusals = 0
        self.lost: Callable[[], None] = lambda: None
        self.at_work = asyncio.Event()
        self.at_work.set()

    async def start(self) -> Mapping[RouteKey, int]:
        return self.inherited

    async def apply(self, capture: Capture) -> None:
        if self.refusals:
            self.refusals -= 1
            raise RedirectError("the kernel is busy")
        await self.at_work.wait()
        self.applied.append(capture)
        self.intact = True

    async def verify(self) -> bool:
        return self.intact

    async def clean(self) -> None:
        self.applied.clear()

    def watch(self, lost: Callable[[], None]) -> None:
        self.lost = lost

    def close(self) -> None:
        self.lost = lambda: None
