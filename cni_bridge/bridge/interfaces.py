"""What every part of the plugin needs of an interface: to find it by name, and a MAC for a new one.

Knows nothing of what it is for. Apart from the rest so that DEL need not load what it does not use.
"""

from __future__ import annotations

from cni_bridge.fast import posix
from cni_bridge.netlink import link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.netlink.connection import Connection
    from cni_bridge.netlink.link import Link


def random_mac() -> bytes:
    """Make a locally administered address of one interface (IEEE 802: of the first byte bit 1 set, bit 0 clear)."""
    drawn = posix.urandom(6)
    return bytes((drawn[0] & 0xFC | 0x02,)) + drawn[1:]


def find(connection: Connection, name: str) -> Link | None:
    """Read an interface; None when there is none of that name."""
    return link.first(connection.perform(link.get(name))[0])
