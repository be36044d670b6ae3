"""The default back end: VIP and port are rewritten to a local port by one nftables table, without state.

Owns the thread that talks to the kernel, one piece of work after the other, so that the loop never waits, and
the watching for foreign removals. Must not know listeners. What is installed: installed_table.py.
Invariant: routes are there before elements lead to them, and for as long as elements do.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from uproxy.core.ruleset import TABLE, Marks
from uproxy.redirect import notifications, policy_routes, preflight
from uproxy.redirect.cleanup import clean_all
from uproxy.redirect.installed_table import InstalledTable
from uproxy.redirect.nft_runner import Nft

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uproxy.config import CaptureSettings
    from uproxy.core.model import RouteKey
    from uproxy.core.ruleset import Capture
    from uproxy.log import Log

P = ParamSpec("P")
T = TypeVar("T")


class Nftables:
    """Capture by nftables, as redirect.base.Redirect says. For the network namespace of the thread that makes it."""

    name = "nftables"
    rewrites = True
    transparent = True
    keeps_clients = True

    def __init__(self, settings: CaptureSettings, log: Log, *, beside_kube_proxy: bool = False) -> None:
        self._beside_kube_proxy = beside_kube_proxy
        self.mark = settings.sent_mark
        self._log = log
        self._marks = Marks(settings.deliver_mark, settings.sent_mark)
        self._nft = Nft(settings.nft_timeout)
        self._installed = InstalledTable(self._nft, self._marks)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nftables")
        self._watches: list[notifications.Watch] = []

    async def start(self) -> Mapping[RouteKey, int]:
        """Check the host and read what an earlier run left; nothing is written."""
        preflight.report(await self._off_loop(preflight.of_nftables, self._nft, self._marks, self._beside_kube_proxy), self._log)
        return await self._off_loop(self._installed.local_ports)

    async def apply(self, capture: Capture) -> None:
        """Make the kernel agree with capture."""
        await self._off_loop(self._installed.apply, capture)

    async def verify(self) -> bool:
        """Compare the kernel with the last applied capture."""
        return await self._off_loop(self._installed.verify)

    async def clean(self) -> None:
        """Remove everything that uproxy ever installs."""
        self._installed.suspect()
        (await self._off_loop(clean_all)).raise_if_failed()

    def watch(self, lost: Callable[[], None]) -> None:
        """Call lost() when the table, rules or routes are removed by somebody else, on the running loop."""

        def removed() -> None:
            self._installed.suspect()
            lost()

        tables = notifications.table_removals(TABLE, removed)
        self._watches.append(tables)
        self._nft.on_start = tables.ignore
        routing = notifications.route_removals(policy_routes.PROTOCOL, removed)
        self._watches.append(routing)
        routing.ignore(self._installed.routing_port)

    def close(self) -> None:
        """Stop watching; sockets and the thread are given back when the work at hand is done."""
        while self._watches:
            self._watches.pop().close()
        self._worker.submit(self._installed.close)
        self._worker.shutdown(wait=False)

    async def _off_loop(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, lambda: work(*args, **kwargs))
