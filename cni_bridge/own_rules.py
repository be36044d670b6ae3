"""The packet filter rules that outlive every pod: removed together, when the plugins go.

Owns which table that is; rules that belong to one pod go with it (DEL, GC), and tables that other plugins share stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_bridge.bridge.masquerade import TABLE
from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink import nftables
from cni_bridge.netlink.connection import Connection

if TYPE_CHECKING:
    from cni_bridge.netlink.message import Message


def remove() -> bool:
    """Remove the table in which networks masquerade; tell whether it was there. Raises NetlinkError, OSError."""
    was_there = False

    def plan() -> list[Message]:
        nonlocal was_there
        was_there = bool(connection.perform(TABLE.get())[0])
        return [TABLE.delete()] if was_there else []

    with Connection(sockets.NETFILTER) as connection:
        nftables.change(connection, plan)
    return was_there
