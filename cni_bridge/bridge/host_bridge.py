"""The bridge itself and its addresses as the pods' gateway: made when missing, never removed.

Owns what all attachments of a bridge share. Nothing of it is undone when an ADD fails: another one may rely on it already.
Concurrent first ADDs are ordinary: what exists by the time that we make it is taken as it is.
"""

from __future__ import annotations

import errno

from cni_bridge import addresses, sysctl
from cni_bridge.bridge import plan as plans
from cni_bridge.bridge.interfaces import find, random_mac
from cni_bridge.netlink import address, link
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.protocol.errors import ALREADY_EXISTS, IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.config import Settings
    from cni_bridge.bridge.plan import Network
    from cni_bridge.netlink.connection import Connection
    from cni_bridge.netlink.link import Link


def ensure(connection: Connection, settings: Settings) -> Link:
    """Give the bridge, up; make it if need be. Raises CniError (105) when the name is another interface's."""
    bridge = find(connection, settings.bridge) or _make(connection, settings)
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
        _give_mac(connection, bridge)
    return bridge


def _give_mac(connection: Connection, bridge: Link) -> None:
    """Give a MAC to a bridge of somebody else's that lost its own: without ports, and without one set by hand, it has none."""
    mac = random_mac()
    connection.perform(link.set_mac(bridge.index, bridge.name, mac))
    bridge.mac = link.mac_text(mac)


def _make(connection: Connection, settings: Settings) -> Link:
    """Make it down: whoever brings it up, the next request if this one dies, tells it first to take no router's word for its addresses."""
    try:
        connection.perform(link.create_bridge(settings.bridge, random_mac(), mtu=settings.mtu, vlan_filtering=settings.filters_vlans))
    except NetlinkError as error:
        if error.number != errno.EEXIST:
            raise
    made = find(connection, settings.bridge)
    if made is None:
        raise CniError(IO_FAILURE, f"bridge {settings.bridge} vanished as soon as it was made")
    return made


def ensure_gateways(connection: Connection, holder: Link, wanted: list[Network], *, force: bool) -> None:
    """Give the interface the gateways' addresses and turn on forwarding for their families.

    Raises CniError (105) when another address is in the way and must not be replaced.
    """
    for family in sorted({address.family_of(packed) for packed, _ in wanted}):
        mine = [one for one in wanted if address.family_of(one[0]) == family]
        there = _addresses(connection, holder, family)
        missing = [one for one in mine if not _is_there(one, there)]
        if missing:
            _remove(connection, holder, _in_the_way(holder, there, mine, force=force))
            _add(connection, holder, missing)
        sysctl.ensure("ipv4/ip_forward" if family == address.IPV4 else "ipv6/conf/all/forwarding", "1")


def _addresses(connection: Connection, holder: Link, family: int) -> list[Network]:
    found = address.of_interface(connection.dump(address.dump(holder.index, family)), holder.index)
    return [(one.address, one.prefix) for one in found]


def _is_there(wanted: Network, there: list[Network]) -> bool:
    """Tell whether the address is there; one that is to have a host's prefix may have any."""
    return any(one[0] == wanted[0] and not plans.is_in_the_way(one, wanted) for one in there) or wanted in there


def _in_the_way(holder: Link, there: list[Network], wanted: list[Network], *, force: bool) -> list[Network]:
    blocking = [one for one in there if one not in wanted and any(plans.is_in_the_way(one, mine) for mine in wanted)]
    if blocking and not force:
        shown = addresses.cidr_text(*wanted[0])
        raise CniError(
            ALREADY_EXISTS,
            f'"{holder.name}" already has an IP address different from {shown}',
            f'it has {", ".join(addresses.cidr_text(*one) for one in blocking)}; "forceAddress": true replaces it',
        )
    return blocking


def _remove(connection: Connection, holder: Link, blocking: list[Network]) -> None:
    if blocking:
        connection.perform(*[address.delete(holder.index, packed, prefix) for packed, prefix in blocking])


def _add(connection: Connection, holder: Link, missing: list[Network]) -> None:
    """Add addresses, usable at once, and pin the MAC: a bridge that was made without one would take on its lowest port's."""
    for packed, prefix in missing:
        message = address.add(holder.index, packed, prefix, broadcast=plans.broadcast(packed, prefix), nodad=True)
        message.tolerated = (errno.EEXIST,)
        connection.perform(message)
    connection.perform(link.set_mac(holder.index, holder.name, bytes.fromhex(holder.mac.replace(":", ""))))
