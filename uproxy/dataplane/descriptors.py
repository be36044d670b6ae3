"""The budget of file descriptors: how many there are, how many traffic may take, how many it has taken.

Owns the process' RLIMIT_NOFILE and the count of descriptors that carry traffic. Invariant: what traffic has
taken never exceeds the budget, so the reserve stays free for logs, watches, health and metrics.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def raise_limit() -> int:
    """Raise RLIMIT_NOFILE to its hard limit and give the limit in force (getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard
    if hard == resource.RLIM_INFINITY:
        wanted = int(Path("/proc/sys/fs/nr_open").read_text("ascii"))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def descriptors_in_use() -> int:
    """Count this process' open descriptors, the one that counts them left out."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1


class Descriptors:
    """Counts the descriptors that traffic holds against a budget.

    limit: RLIMIT_NOFILE. budget: what traffic may take: the limit without what was open at the start and
    without the reserve. flow_limit: UDP flows (one descriptor each) that may exist at a time.
    on_given: called after descriptors were given back while somebody had been refused some.
    """

    __slots__ = ("_refused", "budget", "flow_limit", "limit", "on_given", "taken")

    def __init__(self, limit: int, in_use: int, reserve: int, flow_share: float) -> None:
        self.limit = limit
        self.budget = max(0, limit - in_use - reserve)
        self.flow_limit = int(self.budget * flow_share)
        self.taken = 0
        self.on_given: Callable[[], None] | None = None
        self._refused = False

    def take(self, count: int) -> bool:
        """Take `count` descriptors out of the budget; False, and nothing taken, when there are not that many."""
        if self.taken + count > self.budget:
            self._refused = True
            return False
        self.taken += count
        return True

    def tell(self) -> None:
        """Have on_given called after the next give(), as if take() had failed: the kernel itself ran out."""
        self._refused = True

    def give(self, count: int) -> None:
        """Give `count` descriptors back; they must have been closed (or be about to be, at the end of this turn)."""
        self.taken -= count
        if self._refused:
            self._refused = False
            if self.on_given is not None:
                self.on_given()
