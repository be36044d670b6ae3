"""The bridge itself and its addresses as the pods' gateway: there, or made by `host_bridge_making`; never removed.

Owns what all attachments of a bridge share. Nothing of it is undone when an ADD fails: another one may rely on it already.
Concurrent first ADDs are ordinary: what exists by the time that we make it is taken as it is.
"""

from __future__ import annotations

from cni_bridge import sysctl
from cni_bridge.bridge import plan as plans
from cni_bridge.bridge.interfaces import find
from cni_bridge.netlink import address, link
from cni_bridge.protocol.errors import ALREADY_EXISTS, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.config import Settings
    from cni_bridge.bridge.plan import Network
    from cni_bridge.netlink.connection import Connection
    from cni_bridge.netlink.link import Link


def ensure(connection: Connection, settings: Settings) -> Link:
    """Give the bridge, up; make it if need be. Raises CniError (105) when the name is another interface's."""
    bridge = find(connection, settings.bridge)
    if bridge is None:
        from cni_bridge.bridge import host_bridge_making  # noqa: PLC0415 - every import costs, and this is done once

        bridge = host_bridge_making.make(connection, settings)
    if bridge.kind != "bridge":
        kind = f"it is {bridge.kind or 'no virtual interface'}"
        raise CniError(ALREADY_EXISTS, f'"{settings.bridge}" already exists but is not a bridge', kind)
    wanted = link.UP | (link.PROMISCUOUS if settings.promiscuous else 0)
    if not bridge.is_up:
        sysctl.write_if_there(f"ipv6/conf/{settings.bridge}/accept_ra", "0")
        if not settings.enabledad:
            # While the link-local address is checked for duplicates (2 s) the node cannot ask for the first pods' neighbours.
            sysctl.write_if_there(f"ipv6/conf/{settings.bridge}/accept_dad", "0")
    if bridge.flags & wanted != wanted:
        connection.perform(link.set_flags(bridge.index, bridge.name, wanted, wanted))
        bridge.flags |= wanted
    if not bridge.mac.strip("0:"):
        from cni_bridge.bridge import host_bridge_making  # noqa: PLC0415 - as above

        host_bridge_making.give_mac(connection, bridge)
    return bridge


def ensure_gateways(connection: Connection, holder: Link, wanted: list[Network], *, force: bool) -> None:
    """Give the interface the gateways' addresses and turn on forwarding for their families.

    Raises CniError (105) when another address is in the way and must not be replaced.
    """
    for family in sorted({address.family_of(packed) for packed, _ in wanted}):
        mine = [one for one in wanted if address.family_of(one[0]) == family]
        there = _addresses(connection, holder, family)
        if not all(is_there(one, there) for one in mine):
            from cni_bridge.bridge import host_bridge_making  # noqa: PLC0415 - as above

            host_bridge_making.add_gateways(connection, holder, there, mine, force=force)
        sysctl.ensure("ipv4/ip_forward" if family == address.IPV4 else "ipv6/conf/all/forwarding", "1")


def _addresses(connection: Connection, holder: Link, family: int) -> list[Network]:
    found = address.of_interface(connection.dump(address.dump(holder.index, family)), holder.index)
    return [(one.address, one.prefix) for one in found]


def is_there(wanted: Network, there: list[Network]) -> bool:
    """Tell whether the address is there; one that is to have a host's prefix may have any."""
    return any(one[0] == wanted[0] and not plans.is_in_the_way(one, wanted) for one in there) or wanted in there
