"""Routes: adding, removing, reading (linux/rtnetlink.h, rtnetlink(7)).

Pure: gives requests, reads answers. Addresses are 4 or 16 bytes, whose length tells the family.
"""

from __future__ import annotations

from cni_bridge.addresses import cidr_text
from cni_bridge.fast import Struct
from cni_bridge.netlink.address import IPV4, family_of
from cni_bridge.netlink.message import CREATE, ENODEV, ESRCH, REPLACE, U32, Message, attribute, attributes, u32

NEW, DELETE, GET = 24, 25, 26  # RTM_*ROUTE
_ROUTE = Struct("=BBBBBBBBI")  # rtmsg: family, dst length, src length, tos, table, protocol, scope, type, flags
_ROUTE_BYTES = 12
_DST, _OIF, _GATEWAY, _PRIORITY, _METRICS, _TABLE = 1, 4, 5, 6, 8, 15  # RTA_*
_METRIC_MTU, _METRIC_ADVMSS = 2, 8  # RTAX_*
MAIN, UNSPECIFIED = 254, 0  # RT_TABLE_*: a table number above 255 stands in the attribute alone
PROTOCOL_KERNEL, PROTOCOL_BOOT = 2, 3
UNIVERSE, LINK_SCOPE = 0, 253
_UNICAST = 1
_LOOKUP_TABLE, _FIB_MATCH = 0x1000, 0x2000  # RTM_F_*; IPv6 refuses the first where requests are checked strictly


class Route:
    """A unicast route. dst: network and prefix length; gateway: empty for none; 0 leaves a number to the kernel.

    scope: RT_SCOPE_*; IPv6 has none and ignores it. index: of the interface.
    """

    __slots__ = ("advmss", "dst", "gateway", "index", "mtu", "prefix", "priority", "protocol", "scope", "table")

    def __init__(self, dst: bytes, prefix: int, index: int, *, gateway: bytes = b"", scope: int = UNIVERSE) -> None:
        self.dst = dst
        self.prefix = prefix
        self.index = index
        self.gateway = gateway
        self.scope = scope
        self.table = MAIN
        self.priority = 0
        self.mtu = 0
        self.advmss = 0
        self.protocol = PROTOCOL_BOOT

    def __str__(self) -> str:
        return cidr_text(self.dst, self.prefix)


def _body(route: Route) -> bytes:
    table = route.table if route.table < 256 else UNSPECIFIED  # noqa: PLR2004 - rtm_table is one byte
    head = _ROUTE.pack(family_of(route.dst), route.prefix, 0, 0, table, route.protocol, route.scope, _UNICAST, 0)
    parts = [head]
    if route.prefix:
        parts.append(attribute(_DST, route.dst))
    if route.gateway:
        parts.append(attribute(_GATEWAY, route.gateway))
    if route.priority:
        parts.append(u32(_PRIORITY, route.priority))
    if route.table != table:
        parts.append(u32(_TABLE, route.table))
    parts.append(u32(_OIF, route.index))
    return b"".join(parts) + _metrics(route)


def _metrics(route: Route) -> bytes:
    mtu = u32(_METRIC_MTU, route.mtu) if route.mtu else b""
    advmss = u32(_METRIC_ADVMSS, route.advmss) if route.advmss else b""
    return attribute(_METRICS, mtu + advmss) if mtu or advmss else b""


def add(route: Route, tolerated: tuple[int, ...] = ()) -> Message:
    """Ask for a route beside those that there are: as `ip route prepend` and the reference plugins do."""
    return Message(NEW, CREATE, _body(route), f"add route {route}", tolerated)


def replace(route: Route) -> Message:
    """Ask for a route in place of one to the same network with the same priority."""
    return Message(NEW, CREATE | REPLACE, _body(route), f"set route {route}")


def delete(route: Route) -> Message:
    """Ask for removal; a route that is gone is no error."""
    return Message(DELETE, 0, _body(route), f"remove route {route}", (ESRCH, ENODEV))


def dump(family: int, index: int = 0) -> Message:
    """Ask for the routes of all tables, or those over one interface (kernels before 4.20 give all the same)."""
    body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + (u32(_OIF, index) if index else b"")
    return Message(GET, 0, body, "list routes")


def match(address: bytes) -> Message:
    """Ask for the route that packets to the address take, as it stands in its table; none gives no answer."""
    import errno  # noqa: PLC0415 - as in address.delete

    family = family_of(address)
    flags = _FIB_MATCH | (_LOOKUP_TABLE if family == IPV4 else 0)
    head = _ROUTE.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, flags)
    return Message(GET, 0, head + attribute(_DST, address), "look up a route", (errno.ENETUNREACH, errno.EHOSTUNREACH, ESRCH))


def parse(payload: bytes) -> Route:
    """Read one route of an answer."""
    family, prefix, _, _, table, protocol, scope, _, _ = _ROUTE.unpack_from(payload)
    found = attributes(payload, _ROUTE_BYTES)
    size = 4 if family == 2 else 16  # noqa: PLR2004 - AF_INET; the bytes of an address
    route = Route(found.get(_DST, bytes(size)), prefix, _number(found, _OIF), gateway=found.get(_GATEWAY, b""), scope=scope)
    route.protocol = protocol
    route.table = _number(found, _TABLE) or table
    route.priority = _number(found, _PRIORITY)
    metrics = attributes(found.get(_METRICS, b""))
    route.mtu, route.advmss = _number(metrics, _METRIC_MTU), _number(metrics, _METRIC_ADVMSS)
    return route


def _number(found: dict[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return int(U32.unpack(value)[0]) if value is not None else 0
