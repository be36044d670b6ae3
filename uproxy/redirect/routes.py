"""The back end without netfilter: a `local` route per VIP makes it an address of the node, and listeners bind it directly.

Owns routes of protocol 97 in the table `local`. Must not know ports: two processes that want the same one
conflict as on any address. Refusing is the kernel's own doing, where no listener is. Invariant: a route that
is not of our protocol is never replaced nor removed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from uproxy.redirect import notifications, policy_routes, preflight
from uproxy.redirect.cleanup import clean_all
from uproxy.redirect.netlink import NETLINK_ROUTE, NetlinkSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uproxy.core.model import RouteKey
    from uproxy.core.ruleset import Capture
    from uproxy.log import Log


class Routes:
    """Capture by routes alone, as redirect.base.Redirect says. For the network namespace of the thread that makes it."""

    name = "routes"
    rewrites = False
    transparent = True  # an IPv6 address that only a route makes ours cannot be bound otherwise
    keeps_clients = False
    mark = 0

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kernel = NetlinkSocket(NETLINK_ROUTE)
        self._routes = policy_routes.PolicyRoutes(self._kernel, policy_routes.families(), 0, policy_routes.direct)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="routes")
        self._vips: frozenset[str] | None = None
        self._is_certain = False
        self._watch: notifications.Watch | None = None

    async def start(self) -> Mapping[RouteKey, int]:
        """Check the host. There are no local ports here."""
        findings = await asyncio.get_running_loop().run_in_executor(self._worker, preflight.of_routes)
        preflight.report(findings, self._log)
        return {}

    async def apply(self, capture: Capture) -> None:
        """Install the missing routes and remove those of VIPs that are gone."""
        known = self._vips if self._is_certain else None
        self._is_certain = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._apply, known, capture.vips)
        except BaseException:
            self._is_certain = False
            raise
        self._vips = capture.vips

    async def verify(self) -> bool:
        """Compare the routes with the last applied capture's VIPs."""
        if self._vips is None:
            return True
        same = await asyncio.get_running_loop().run_in_executor(self._worker, self._routes.matches, self._vips)
        self._is_certain = self._is_certain and same
        return same

    async def clean(self) -> None:
        """Remove everything that uproxy ever installs."""
        self._is_certain = False
        (await asyncio.get_running_loop().run_in_executor(self._worker, clean_all)).raise_if_failed()

    def watch(self, lost: Callable[[], None]) -> None:
        """Call lost() when somebody else removes routes of ours, on the running loop."""

        def removed() -> None:
            self._is_certain = False
            lost()

        self._watch = notifications.route_removals(policy_routes.PROTOCOL, removed)
        self._watch.ignore(self._kernel.port)

    def close(self) -> None:
        """Stop watching; what is in the kernel stays."""
        if self._watch is not None:
            self._watch.close()
        self._worker.submit(self._kernel.close)
        self._worker.shutdown(wait=False)

    def _apply(self, known: frozenset[str] | None, vips: frozenset[str]) -> None:
        if known is None:
            self._routes.discard(self._routes.repair(vips))
        else:
            self._routes.add(vips - known)
            self._routes.remove(known - vips)
