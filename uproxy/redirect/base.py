"""What every redirect back end offers, and the value that says what is to be captured.

Knows nothing of listeners and connections. A back end keeps what it knows to be in the kernel, so that
apply() sends only the difference; whatever happened before, apply() of the same Capture repairs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from uproxy.core.model import RouteKey
from uproxy.core.ruleset import Capture

__all__ = ["Capture", "Redirect"]


class Redirect(Protocol):
    """One way of capturing service addresses. One task at a time calls its methods.

    rewrites: listeners are bound to local ports of ours and the kernel rewrites between them and service ports.
    keeps_clients: upstream connections may carry the client's address, for replies come back to us.
    mark: what listeners' sockets set as SO_MARK; 0 for none.
    transparent: whether listeners need IP_TRANSPARENT.
    """

    name: str
    rewrites: bool
    transparent: bool
    keeps_clients: bool
    mark: int

    async def start(self) -> Mapping[RouteKey, int]:
        """Check that this back end can work here, take over what is in the kernel, give the local ports found there.

        Raises UsageError where it can never work here (naming what is missing and which back end would),
        RedirectError for what may pass.
        """

    async def apply(self, capture: Capture) -> None:
        """Make the kernel agree with capture, sending only what differs; raises RedirectError."""

    async def verify(self) -> bool:
        """Compare the kernel with the last applied capture. False: something was missing; the next apply repairs it."""

    async def clean(self) -> None:
        """Remove all that this back end, in any version, ever installs; repeating it is no error."""

    def watch(self, lost: Callable[[], None]) -> None:
        """Call lost() when somebody else removes what is ours (netlink notification), until close()."""

    def close(self) -> None:
        """Stop watching. What is in the kernel stays."""
