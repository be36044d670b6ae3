"""The back end that asks the kernel for nothing: listeners bind addresses that the machine has, loopback for example.

Owns nothing, needs no privileges. An address that the machine does not have fails when it is bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uproxy.core.model import RouteKey
    from uproxy.core.ruleset import Capture


class NoRedirect:
    """No capture, as redirect.base.Redirect says: every method succeeds at once."""

    name = "none"
    rewrites = False
    transparent = False
    keeps_clients = False
    mark = 0

    async def start(self) -> Mapping[RouteKey, int]:
        """Find no local ports."""
        return {}

    async def apply(self, capture: Capture) -> None:
        """Need nothing."""

    async def verify(self) -> bool:
        """Miss nothing."""
        return True

    async def clean(self) -> None:
        """Leave nothing."""

    def watch(self, lost: Callable[[], None]) -> None:
        """Lose nothing."""

    def close(self) -> None:
        """Hold nothing."""
