"""Ports of a bridge: hairpin, isolation, VLAN membership (linux/if_bridge.h; family AF_BRIDGE of RTM_*LINK).

Pure: gives requests, reads answers. Knows what a port is, not why it is one.
"""

from __future__ import annotations

from cni_bridge.fast import Struct
from cni_bridge.netlink import link
from cni_bridge.netlink.message import NESTED, U16, Message, attribute, attribute_list, attributes, u8, u32

_AF_BRIDGE = 7
_PROTINFO, _AF_SPEC = 12, 26  # IFLA_*
_FLAGS, _VLAN_INFO = 0, 2  # IFLA_BRIDGE_*
_SELF = 2  # BRIDGE_FLAGS_SELF: the bridge's own membership, not a port's
PVID, UNTAGGED, RANGE_BEGIN, RANGE_END = 2, 4, 8, 16  # BRIDGE_VLAN_INFO_*
_VLAN = Struct("=HH")  # bridge_vlan_info: flags, VLAN ID
_FILTER_VLANS = 2  # RTEXT_FILTER_BRVLAN

Vlan = tuple[int, int, int]
"""First and last VLAN ID and flags (PVID, UNTAGGED)."""


def set_port(index: int, *, hairpin: bool, isolated: bool | None = None) -> Message:
    """Ask for a port's hairpin mode and, unless None (kernels before 4.18 know none), its isolation."""
    settings = u8(link.HAIRPIN, hairpin) + (u8(link.ISOLATED, isolated) if isolated is not None else b"")
    return Message(link.SET, 0, link.info(index, family=_AF_BRIDGE) + attribute(_PROTINFO | NESTED, settings), f"set bridge port {index}")


def add_vlans(index: int, vlans: list[Vlan], *, of_bridge: bool = False) -> Message:
    """Ask for a port's membership in VLANs, or the bridge's own one."""
    return Message(link.SET, 0, _body(index, vlans, of_bridge=of_bridge), f"add port {index} to VLANs {_shown(vlans)}")


def remove_vlans(index: int, vlans: list[Vlan]) -> Message:
    """Ask for the end of a port's membership; VLANs that it is no member of are no error."""
    return Message(link.DELETE, 0, _body(index, vlans, of_bridge=False), f"remove port {index} from VLANs {_shown(vlans)}")


def _body(index: int, vlans: list[Vlan], *, of_bridge: bool) -> bytes:
    entries = b"".join([_entry(*vlan) for vlan in vlans])
    flags = attribute(_FLAGS, U16.pack(_SELF)) if of_bridge else b""
    return link.info(index, family=_AF_BRIDGE) + attribute(_AF_SPEC, flags + entries)


def _entry(first: int, last: int, flags: int) -> bytes:
    if first == last:
        return attribute(_VLAN_INFO, _VLAN.pack(flags, first))
    begin, end = _VLAN.pack(flags | RANGE_BEGIN, first), _VLAN.pack(flags | RANGE_END, last)
    return attribute(_VLAN_INFO, begin) + attribute(_VLAN_INFO, end)


def _shown(vlans: list[Vlan]) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last, _ in vlans)


def dump_vlans() -> Message:
    """Ask for the VLANs of all ports."""
    return Message(link.GET, 0, link.info(family=_AF_BRIDGE) + u32(link.EXT_MASK, _FILTER_VLANS), "list VLANs")


def vlans_of(answers: list[bytes], index: int) -> list[Vlan]:
    """Read a dump: the VLANs of that port, one by one."""
    found = []
    for payload in answers:
        if link.index_of(payload) == index:
            spec = attributes(payload, link.INFO_BYTES).get(_AF_SPEC, b"")
            members = [_VLAN.unpack(value) for kind, value in attribute_list(spec) if kind == _VLAN_INFO]
            found += [(number, number, flags & (PVID | UNTAGGED)) for flags, number in members]
    return found
