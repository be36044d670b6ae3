"""Waiting until the pod's IPv6 addresses are known to be nobody else's ("enabledad").

Knows nothing of how they got there.
"""

from __future__ import annotations

import time

from cni_bridge import addresses
from cni_bridge.netlink import address
from cni_bridge.netlink.subscription import GROUP_IPV6_ADDRESS, Subscription
from cni_bridge.protocol.errors import ALREADY_EXISTS, IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_bridge.netlink.connection import Connection

SETTLING_SECONDS = 10
"""Duplicate address detection takes 1 s and a random delay of up to 1 s more (RFC 4862, 5.4.2)."""


def after(add: Callable[[], object], connection: Connection, index: int, name: str) -> None:
    """Add addresses and wait until none of the interface's is tentative any more.

    Raises CniError: 105 when another has one of them, 5 when it takes too long.
    """
    with Subscription(GROUP_IPV6_ADDRESS) as news:
        add()
        _settle(connection, index, name, news)


def _settle(connection: Connection, index: int, name: str, news: Subscription) -> None:
    """Wait until no address is tentative any more."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        there = address.of_interface(connection.dump(address.dump(index, address.IPV6)), index)
        failed = [one for one in there if one.flags & address.DADFAILED]
        if failed:
            taken = addresses.text(failed[0].address)
            raise CniError(ALREADY_EXISTS, f"{taken} is in use by another interface", "duplicate address detection found it")
        if not any(one.flags & address.TENTATIVE for one in there):
            return
        if not news.wait(index, deadline):
            raise CniError(IO_FAILURE, f"link {name} still has tentative addresses after {SETTLING_SECONDS} seconds")
