"""What is done for a bridge once: making it, giving it a MAC and the gateways' addresses.

Apart from `host_bridge` because nearly every ADD finds all of it there.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.bridge import plan as plans
from cni_bridge.bridge.host_bridge import is_there
from cni_bridge.bridge.interfaces import find, random_mac
from cni_bridge.netlink import address, link
from cni_bridge.netlink.message import EEXIST, NetlinkError
from cni_bridge.protocol.errors import ALREADY_EXISTS, IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.config import Settings
    from cni_bridge.bridge.plan import Network
    from cni_bridge.netlink.connection import Connection
    from cni_bridge.netlink.link import Link


def give_mac(connection: Connection, bridge: Link) -> None:
    """Give a MAC to a bridge of somebody else's that lost its own: without ports, and without one set by hand, it has none."""
    mac = random_mac()
    connection.perform(link.set_mac(bridge.index, bridge.name, mac))
    bridge.mac = link.mac_text(mac)


def make(connection: Connection, settings: Settings) -> Link:
    """Make it down: whoever brings it up, the next request if this one dies, tells it first to take no router's word for its addresses."""
    try:
        connection.perform(link.create_bridge(settings.bridge, random_mac(), mtu=settings.mtu, vlan_filtering=settings.filters_vlans))
    except NetlinkError as error:
        if error.number != EEXIST:
            raise
    made = find(connection, settings.bridge)
    if made is None:
        raise CniError(IO_FAILURE, f"bridge {settings.bridge} vanished as soon as it was made")
    return made


def add_gateways(connection: Connection, holder: Link, there: list[Network], wanted: list[Network], *, force: bool) -> None:
    """Add those addresses of one family that are missing, in place of others if need be. Raises CniError (105) when it must not be."""
    missing = [one for one in wanted if not is_there(one, there)]
    _remove(connection, holder, _in_the_way(holder, there, wanted, force=force))
    _add(connection, holder, missing)


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
        message.tolerated = (EEXIST,)
        connection.perform(message)
    connection.perform(link.set_mac(holder.index, holder.name, bytes.fromhex(holder.mac.replace(":", ""))))
