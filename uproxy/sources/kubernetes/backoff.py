"""How long to wait before something is tried again: longer each time, never the same on two nodes.

Owns the arithmetic only: no clock, and the randomness is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from uproxy.config import KubernetesSettings

JITTER = 0.5
"""A pause is longer or shorter by up to this share, so that nodes that lost a server together do not come back together."""


class Backoff:
    """Pauses that double with every failure since the last success."""

    def __init__(self, settings: KubernetesSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self.failures = 0

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0

    def failed(self, retry_after: float = 0.0) -> float:
        """Note a failure; give the seconds to wait. retry_after: seconds that the server wants to be left alone, 0 for none."""
        middle = min(self._settings.retry_base * 2.0 ** min(self.failures, 32), self._settings.retry_limit / (1 + JITTER))
        self.failures += 1
        pause = middle * self._random.uniform(1 - JITTER, 1 + JITTER)
        asked = min(retry_after, self._settings.retry_after_limit)
        # All nodes are asked to wait equally long: they come back one after the other nevertheless.
        return max(pause, asked * self._random.uniform(1, 1 + JITTER)) if asked > 0 else pause
