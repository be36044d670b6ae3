"""The host's ends of an attachment's veth pairs, found again by name and alias.

Owns how many names are tried. Apart from `pair`, which makes them, so that DEL need not load that.
"""

from __future__ import annotations

from cni_bridge.bridge.interfaces import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_bridge.bridge.names import Attachment
    from cni_bridge.netlink.connection import Connection
    from cni_bridge.netlink.link import Link

NAME_TRIES = 10


def host_ends(connection: Connection, attachment: Attachment) -> Iterator[Link]:
    """Find the host's ends of an attachment's pairs: one, or none; more only after an ADD without the DEL before it."""
    for attempt in range(NAME_TRIES):
        found = find(connection, attachment.veth(attempt))
        if found is None:
            return
        if found.kind == "veth" and found.alias in {attachment.alias, ""}:
            yield found
