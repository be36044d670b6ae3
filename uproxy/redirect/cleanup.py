"""Removing whatever uproxy, in any version and with any back end, installed in the kernel of this network namespace.

Owns the list of what that can be: the table `inet uproxy`, and rules and routes of protocol 97. Needs no nft and
no running uproxy; repeating it is no error. Invariant: one thing that cannot be removed does not keep the others.
"""

from __future__ import annotations

from typing import NamedTuple

from uproxy.core.ruleset import FULL_NAME, TABLE
from uproxy.errors import RedirectError
from uproxy.redirect import nfnetlink, policy_routes
from uproxy.redirect.netlink import NETLINK_ROUTE, NetlinkError, NetlinkSocket


class Cleaned(NamedTuple):
    """What was removed, and what could not be and why, in the operator's words."""

    removed: tuple[str, ...]
    failed: tuple[str, ...]

    def raise_if_failed(self) -> None:
        """Raise RedirectError naming everything that is still there."""
        if self.failed:
            raise RedirectError("not removed: " + "; ".join(self.failed))


def clean_all() -> Cleaned:
    """Remove everything; blocking (10,000 VIPs: a second)."""
    removed: list[str] = []
    failed: list[str] = []
    try:
        # The table first: without the routes, what it still captures would be lost instead of going where it went before.
        if nfnetlink.delete_table(TABLE):
            removed.append(f"nftables table {FULL_NAME}")
    except NetlinkError as error:
        failed.append(f"nftables table {FULL_NAME}: {error}")
    try:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            count, kept = policy_routes.remove_all(kernel)
    except NetlinkError as error:
        failed.append(f"rules and routes: {error}")
    else:
        failed += kept
        if count:
            removed.append(f"{count} rules and routes of protocol {policy_routes.PROTOCOL}")
    return Cleaned(tuple(removed), tuple(failed))
