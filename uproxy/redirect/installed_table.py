"""What the nftables back end has in the kernel, and how it gets from there to what is wanted.

Owns the memory of what was applied, and when it may be trusted: not after a failure, and not after somebody else
removed something. Blocking: its methods run on one thread, except suspect(), which the loop calls.
Invariant: without a reason for doubt, nothing is read back; with one, what is there is read before it is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uproxy.core import ruleset
from uproxy.core.ruleset import Capture, Elements, Listed, Marks
from uproxy.errors import RedirectError
from uproxy.redirect import nfnetlink, policy_routes
from uproxy.redirect.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket
from uproxy.redirect.nft_runner import Nft, NotInKernel

if TYPE_CHECKING:
    from uproxy.core.model import RouteKey

_NEVER = -1


class InstalledTable:
    """The table, rules and routes in this network namespace. All methods but suspect() and close() raise RedirectError."""

    def __init__(self, nft: Nft, marks: Marks) -> None:
        self._nft = nft
        self._families = policy_routes.families()
        self._rules = ruleset.rules(marks, self._families)
        self._routing = NetlinkSocket(NETLINK_ROUTE)
        self._tables = NetlinkSocket(NETLINK_NETFILTER)
        self._routes = policy_routes.PolicyRoutes(self._routing, self._families, marks.deliver, policy_routes.rewritten)
        self._applied: Capture | None = None
        # What was applied is in the kernel as long as the number of losses is the one that is trusted.
        self._losses = 0
        self._trusted = _NEVER
        # The generation at which the table was known to hold what was applied; None: it has to be read.
        self._generation: int | None = None
        self._statics: tuple[str, ...] | None = None

    def suspect(self) -> None:
        """Note that what was applied may be gone: the next apply() reads before it writes."""
        self._losses += 1

    @property
    def routing_port(self) -> int:
        """The netlink port whose notifications are of our own doing."""
        return self._routing.port

    def close(self) -> None:
        """Give the sockets back; what is in the kernel stays."""
        self._routing.close()
        self._tables.close()

    def local_ports(self) -> dict[RouteKey, int]:
        """Give the local ports that the table of an earlier run holds."""
        listed = self._listed()
        return ruleset.local_ports(listed.elements) if listed else {}

    def apply(self, capture: Capture) -> None:
        """Make the kernel hold capture; what a failure leaves half done, the next call repairs."""
        losses = self._losses
        known = self._applied if self._trusted == losses else None
        self._trusted = _NEVER
        if known is None or not self._change(known, capture):
            self._repair(capture)
        self._applied = capture
        self._trusted = losses

    def verify(self) -> bool:
        """Say whether the kernel holds what was applied last; if nobody touched nftables since, that costs one message."""
        if self._applied is None:
            return True
        losses = self._losses
        same = self._table_holds(self._applied) and self._routes.matches(self._applied.vips)
        self._trusted = losses if same else _NEVER
        return same

    def _change(self, old: Capture, new: Capture) -> bool:
        """Send what differs; False when the kernel does not have what old says."""
        self._routes.add(new.vips - old.vips)
        try:
            self._commit(self._difference(old, new), self._generation)
        except NotInKernel:
            return False
        self._routes.remove(old.vips - new.vips)
        return True

    def _difference(self, old: Capture, new: Capture) -> str:
        fewer, more = ruleset.differing(old, new)
        return ruleset.changes(self._elements(fewer), self._elements(more))

    def _repair(self, capture: Capture) -> None:
        """Read what is there and send what is missing; a table that is not ours as it should be is replaced at once."""
        surplus = self._routes.repair(capture.vips)
        before = nfnetlink.generation(self._tables)
        if self._applied is not None and before == self._generation:
            script = self._difference(self._applied, capture)
        else:
            script = self._missing(capture)
        self._commit(script, before)
        self._routes.discard(surplus)

    def _missing(self, capture: Capture) -> str:
        """Read the table and give what leads from there to capture."""
        listed = self._listed()
        content = self._elements(capture)
        if listed is not None and self._is_intact(listed):
            return ruleset.changes(listed.elements, content)
        self._statics = None
        return ruleset.replacement(self._rules, content)

    def _commit(self, script: str, known: int | None) -> None:
        """Carry out a script; known: the generation that it starts from, if nobody else came in between."""
        before = nfnetlink.generation(self._tables)
        if script:
            self._nft.apply(script)
        after = nfnetlink.generation(self._tables)
        alone = before == known and after == before + bool(script)
        self._generation = after if alone else None

    def _table_holds(self, capture: Capture) -> bool:
        before = nfnetlink.generation(self._tables)
        if before == self._generation:
            return True
        listed = self._listed()
        same = listed is not None and self._is_intact(listed) and listed.elements == self._elements(capture)
        self._generation = before if same else None
        return same

    def _is_intact(self, listed: Listed) -> bool:
        """Say whether the static part is this version's, and whether no rule was exchanged since it was first seen so."""
        if listed.version != self._rules.version or len(listed.statics) != self._rules.objects:
            return False
        if self._statics is None:
            self._statics = listed.statics
        return listed.statics == self._statics

    def _elements(self, capture: Capture) -> Elements:
        return ruleset.elements(capture, self._families)

    def _listed(self) -> Listed | None:
        try:
            return ruleset.parse(self._nft.list_json("table", "inet", ruleset.TABLE))
        except NotInKernel:
            return None
        except ValueError as error:
            raise RedirectError(str(error)) from error
