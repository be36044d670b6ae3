"""VLANs of a bridge's ports, and the bridge's own leg in one of them.

Owns membership and the interface `<bridge>.<vlan>`, which like the bridge is shared and never removed. `port_vlans` is pure.
"""

from __future__ import annotations

import errno

from cni_bridge import sysctl
from cni_bridge.bridge.interfaces import find, random_mac
from cni_bridge.bridge.names import digest
from cni_bridge.netlink import bridge_port, link
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.protocol.errors import IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.config import Settings
    from cni_bridge.netlink.bridge_port import Vlan
    from cni_bridge.netlink.connection import Connection
    from cni_bridge.netlink.link import Link

_NATIVE = 1
_OWN = bridge_port.PVID | bridge_port.UNTAGGED


def port_vlans(settings: Settings) -> list[Vlan]:
    """Give a port's VLANs: its own one untagged, those of the trunk tagged; a trunk alone has VLAN 1 as its own."""
    if not settings.filters_vlans:
        return []
    own = settings.vlan or _NATIVE
    return [(own, own, _OWN), *_ranges([one for one in settings.trunk or () if one != own])]


def _ranges(ids: list[int]) -> list[Vlan]:
    """Join neighbours: the kernel takes a range at once."""
    found: list[Vlan] = []
    for one in ids:
        if found and found[-1][1] == one - 1:
            found[-1] = (found[-1][0], one, 0)
        else:
            found.append((one, one, 0))
    return found


def join(connection: Connection, port: Link, settings: Settings) -> None:
    """Make the port a member of its VLANs, and unless asked not to of no others."""
    vlans = port_vlans(settings)
    if not vlans:
        return
    if not settings.preserve_default_vlan:
        there = bridge_port.vlans_of(connection.dump(bridge_port.dump_vlans()), port.index)
        leaving = [(first, last, 0) for first, last, _ in there]
        if leaving:
            connection.perform(bridge_port.remove_vlans(port.index, leaving))
    connection.perform(*[bridge_port.add_vlans(port.index, [vlan]) for vlan in vlans])


def ensure_leg(connection: Connection, bridge: Link, settings: Settings) -> Link:
    """Give the bridge's leg in the VLAN, up: a veth whose other end is a port. Make it if need be."""
    name = settings.gateway_interface
    found = find(connection, name)
    if found is None:
        _make_leg(connection, bridge, settings)
        found = find(connection, name)
    if found is None:
        raise CniError(IO_FAILURE, f"interface {name} vanished as soon as it was made")
    if not found.is_up:
        connection.perform(link.set_up(found.index, name))
    return found


def _make_leg(connection: Connection, bridge: Link, settings: Settings) -> None:
    name = settings.gateway_interface
    port = f"veth{digest(name) & 0xFFFFFFFF:08x}"
    near = link.VethEnd(port, random_mac(), master=bridge.index)
    try:
        connection.perform(link.create_veth(near, link.VethEnd(name, random_mac()), bridge.mtu))
    except NetlinkError as error:
        if error.number != errno.EEXIST:
            raise
        return
    sysctl.write_if_there(f"ipv6/conf/{port}/accept_ra", "0")
    made = find(connection, port)
    if made is not None:
        own = (settings.vlan, settings.vlan, _OWN)
        there = bridge_port.vlans_of(connection.dump(bridge_port.dump_vlans()), made.index)
        if there and not settings.preserve_default_vlan:
            connection.perform(bridge_port.remove_vlans(made.index, [(first, last, 0) for first, last, _ in there]))
        connection.perform(bridge_port.add_vlans(made.index, [own]))
