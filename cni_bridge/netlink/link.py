"""Interfaces: making, changing, removing and reading them (linux/if_link.h, RTM_*LINK in rtnetlink(7)).

Pure: gives requests, reads answers. Knows of bridges and veth pairs, of nothing above them.
"""

from __future__ import annotations

from cni_bridge.fast import Struct
from cni_bridge.netlink.message import CREATE, ENODEV, EXCLUSIVE, I32, U32, Message, attribute, attributes, string, text, u8, u32

NEW, DELETE, GET, SET = 16, 17, 18, 19  # RTM_*LINK
_INFO = Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
INFO_BYTES = 16

ADDRESS, NAME, MTU, LINK, MASTER = 1, 3, 4, 5, 10
OPERSTATE, LINKINFO, ALIAS, GROUP, NET_NS_FD, EXT_MASK, LINK_NETNSID = 16, 18, 20, 27, 28, 29, 37
KIND, DATA, SLAVE_KIND, SLAVE_DATA = 1, 2, 4, 5  # IFLA_INFO_*
_VETH_PEER = 1
_VLAN_FILTERING = 7  # IFLA_BR_*
HAIRPIN, ISOLATED = 4, 33  # IFLA_BRPORT_*
_SKIP_STATS = 8  # RTEXT_FILTER_*

UP, PROMISCUOUS = 0x1, 0x100  # IFF_*
OPERSTATE_UP = 6
OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")


class Link:
    """What the kernel says of an interface. mac: text with colons; master, peer: interface indexes, 0 for none."""

    __slots__ = ("alias", "data", "flags", "group", "index", "kind", "mac", "master", "mtu", "name", "netnsid", "operstate", "peer", "port")

    def __init__(self, payload: bytes) -> None:
        _, _, self.index, self.flags, _ = _INFO.unpack_from(payload)
        found = attributes(payload, INFO_BYTES)
        self.name = string(found.get(NAME, b""))
        self.alias = string(found.get(ALIAS, b""))
        self.mac = mac_text(found.get(ADDRESS, b""))
        self.mtu = _number(found, MTU)
        self.master = _number(found, MASTER)
        self.group = _number(found, GROUP)
        self.peer = _number(found, LINK)
        self.netnsid = I32.unpack(found[LINK_NETNSID])[0] if LINK_NETNSID in found else -1
        self.operstate = found.get(OPERSTATE, b"\0")[0]
        info = attributes(found.get(LINKINFO, b""))
        self.kind = string(info.get(KIND, b""))
        self.data = attributes(info.get(DATA, b""))
        self.port = attributes(info.get(SLAVE_DATA, b"")) if string(info.get(SLAVE_KIND, b"")) == "bridge" else {}

    @property
    def is_up(self) -> bool:
        """Tell whether it is administratively up."""
        return bool(self.flags & UP)

    @property
    def is_promiscuous(self) -> bool:
        """Tell whether promiscuous mode was asked for."""
        return bool(self.flags & PROMISCUOUS)

    @property
    def filters_vlans(self) -> bool:
        """Tell whether it is a bridge with VLAN filtering."""
        return self.data.get(_VLAN_FILTERING, b"\0") != b"\0"

    @property
    def is_hairpin(self) -> bool:
        """Tell whether its bridge sends frames back where they came from."""
        return self.port.get(HAIRPIN, b"\0") != b"\0"

    @property
    def is_isolated(self) -> bool:
        """Tell whether it is a bridge port that reaches only ports which are not isolated."""
        return self.port.get(ISOLATED, b"\0") != b"\0"


def _number(found: dict[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return int(U32.unpack(value)[0]) if value is not None else 0


def mac_text(address: bytes) -> str:
    """Write a hardware address as 02:00:00:00:00:01; the loopback's zeros too."""
    return address.hex(":") if address else ""


def info(index: int = 0, flags: int = 0, change: int = 0, family: int = 0) -> bytes:
    """Make an ifinfomsg."""
    return _INFO.pack(family, 0, index, flags, change)


def index_of(payload: bytes) -> int:
    """Read the index of an answer about an interface, of any family."""
    return int(_INFO.unpack_from(payload)[2])


def create_bridge(name: str, mac: bytes, *, mtu: int = 0, vlan_filtering: bool = False) -> Message:
    """Ask for a bridge that is down; a MAC given at creation counts as set by hand, so that neither udev nor a port changes it.

    mac: 6 bytes. mtu: 0 for the kernel's own. An existing interface of that name is an error (EEXIST).
    """
    data = attribute(DATA, u8(_VLAN_FILTERING, 1)) if vlan_filtering else b""
    linkinfo = attribute(LINKINFO, attribute(KIND, b"bridge") + data)
    body = info() + attribute(ADDRESS, mac) + _mtu(mtu) + text(NAME, name) + linkinfo
    return Message(NEW, CREATE | EXCLUSIVE, body, f"create bridge {name}")


class VethEnd:
    """One end of a veth pair to be made. mac: 6 bytes; master: index of its bridge or 0; netns: a descriptor or -1 for ours.

    group: a number that interfaces may share (IFLA_GROUP), 0 for the default one.
    """

    __slots__ = ("group", "mac", "master", "name", "netns")

    def __init__(self, name: str, mac: bytes, *, master: int = 0, netns: int = -1, group: int = 0) -> None:
        self.name = name
        self.mac = mac
        self.master = master
        self.netns = netns
        self.group = group


def create_veth(near: VethEnd, far: VethEnd, mtu: int = 0) -> Message:
    """Ask for a veth pair whose near end is up and, if so wanted, a port already.

    The far end stays down: the kernel refuses to set it up in the same request (ENOTCONN). A name in use, in either
    namespace, is an error (EEXIST).
    """
    placed = attribute(NET_NS_FD, U32.pack(far.netns)) if far.netns >= 0 else b""
    peer = attribute(_VETH_PEER, info() + attribute(ADDRESS, far.mac) + _mtu(mtu) + text(NAME, far.name) + placed)
    linkinfo = attribute(LINKINFO, attribute(KIND, b"veth") + attribute(DATA, peer))
    enslaved = u32(MASTER, near.master) if near.master else b""
    grouped = u32(GROUP, near.group) if near.group else b""
    body = info(flags=UP, change=UP) + attribute(ADDRESS, near.mac) + _mtu(mtu) + enslaved + grouped + text(NAME, near.name) + linkinfo
    return Message(NEW, CREATE | EXCLUSIVE, body, f"create veth pair {near.name} and {far.name}")


def _mtu(mtu: int) -> bytes:
    return u32(MTU, mtu) if mtu else b""


def set_flags(index: int, name: str, flags: int, mask: int) -> Message:
    """Ask for interface flags: of those in mask the ones in flags are set, the others cleared."""
    return Message(NEW, 0, info(index, flags, mask), f"set flags of {name}")


def set_up(index: int, name: str) -> Message:
    """Ask for the interface to be up."""
    return Message(NEW, 0, info(index, UP, UP), f"set {name} up")


def set_mac(index: int, name: str, mac: bytes) -> Message:
    """Ask for a MAC address; the one that it has counts as set by hand from then on."""
    return Message(NEW, 0, info(index) + attribute(ADDRESS, mac), f"set the MAC address of {name}")


def set_alias(name: str, alias: str) -> Message:
    """Ask for an alias, by the interface's name; at most 255 bytes."""
    return Message(SET, 0, info() + text(NAME, name) + attribute(ALIAS, alias.encode()), f"set the alias of {name}")


def delete(name: str) -> Message:
    """Ask for removal by name; one that is gone is no error."""
    return Message(DELETE, 0, info() + text(NAME, name), f"delete {name}", (ENODEV,))


def get(name: str) -> Message:
    """Ask for one interface by name; none of that name gives no answer."""
    return _question(info() + text(NAME, name), f"read {name}")


def get_index(index: int) -> Message:
    """Ask for one interface by index; a missing one gives no answer."""
    return _question(info(index), f"read interface {index}")


def _question(which: bytes, purpose: str) -> Message:
    message = Message(GET, 0, which + u32(EXT_MASK, _SKIP_STATS), purpose, (ENODEV,))
    message.wants_ack = False
    return message


def dump(master: int = 0) -> Message:
    """Ask for all interfaces, or a bridge's ports (kernels before 4.20 then give all the same)."""
    return Message(GET, 0, info() + u32(EXT_MASK, _SKIP_STATS) + (u32(MASTER, master) if master else b""), "list interfaces")


def first(answers: list[bytes]) -> Link | None:
    """Read the answer to `get` or `get_index`."""
    return Link(answers[0]) if answers else None
