"""Messages about rules, routes, addresses and links, as values and as rtnetlink's bytes.

Owns the layouts of man 7 rtnetlink (include/uapi/linux/{rtnetlink,fib_rules,if_addr,if_link}.h). Must not
know which routes are wanted. Whatever is decoded here was listed by the kernel; what it does not say is empty.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from uproxy.core.model import Family, family_of
from uproxy.redirect.netlink import NetlinkError, NetlinkSocket, attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

NEWLINK: Final = 16
DELLINK: Final = 17
GETLINK: Final = 18
NEWADDR: Final = 20
DELADDR: Final = 21
GETADDR: Final = 22
NEWROUTE: Final = 24
DELROUTE: Final = 25
GETROUTE: Final = 26
NEWRULE: Final = 32
DELRULE: Final = 33
GETRULE: Final = 34

# The loopback device has this index in every network namespace (LOOPBACK_IFINDEX).
LOOPBACK: Final = 1
TABLE_MAIN: Final = 254
TABLE_LOCAL: Final = 255
UNICAST: Final = 1
LOCAL: Final = 2

_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_HOP: Final = struct.Struct("=HxxI")
_U32: Final = struct.Struct("=I")
_TABLE_IN_ATTRIBUTE: Final = 252
_FIB_MATCH: Final = 0x2000
_SCOPE_LINK: Final = 253
_SCOPE_HOST: Final = 254
_AF: Final = {Family.IPV4: int(socket.AF_INET), Family.IPV6: int(socket.AF_INET6)}
_FAMILIES: Final = {number: family for family, number in _AF.items()}
_BITS: Final = {Family.IPV4: 32, Family.IPV6: 128}
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA, _RTA_NH_ID = 1, 4, 5, 6, 9, 15, 18, 30
_FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 3, 4, 6, 10, 15, 16, 21
_TO_TABLE: Final = 1
_GOTO: Final = 2
_RULE_PERMANENT_FLAGS: Final = 0


class KernelRoute(NamedTuple):
    """One route. address "" with prefix 0 is the default route. on_link: no gateway, one device; hops: the devices if several."""

    family: Family
    address: str
    prefix: int
    table: int
    type: int
    protocol: int
    device: int
    on_link: bool = True
    metric: int = 0
    hops: tuple[int, ...] = ()


class Rule(NamedTuple):
    """One policy rule. goto 0: none; input_device "": any; mask 0: the mark is not looked at."""

    family: Family
    preference: int
    table: int = 0
    goto: int = 0
    mark: int = 0
    mask: int = 0
    input_device: str = ""
    protocol: int = 0


class InterfaceAddress(NamedTuple):
    """One address of a device. flags: IFA_F_* of if_addr.h; scope 0 is global."""

    address: str
    prefix: int
    device: int
    scope: int
    flags: int


class Link(NamedTuple):
    """One network device. number: its index. flags: IFF_* of net/if.h."""

    number: int
    name: str
    flags: int


def packed(address: str) -> bytes:
    """Give an address' bytes in network order."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def text_of(raw: bytes) -> str:
    """Give the text of an address; the kernel has one spelling for each."""
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)  # noqa: PLR2004 - bytes of an IPv4 address


def encode_route(route: KernelRoute) -> bytes:
    """Encode an on-link route for RTM_NEWROUTE and RTM_DELROUTE."""
    scope = 0
    if route.family is Family.IPV4:
        scope = _SCOPE_HOST if route.type == LOCAL else _SCOPE_LINK
    fixed = _ROUTE.pack(_AF[route.family], route.prefix, 0, 0, _TABLE_IN_ATTRIBUTE, route.protocol, scope, route.type, 0)
    destination = attribute(_RTA_DST, packed(route.address)) if route.prefix else b""
    return fixed + attribute(_RTA_TABLE, _U32.pack(route.table)) + destination + attribute(_RTA_OIF, _U32.pack(route.device))


def decode_route(payload: bytes) -> KernelRoute:
    """Decode a listed or looked-up route."""
    family, prefix, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
    found = attributes(payload, _ROUTE.size)
    destination = found.get(_RTA_DST)
    return KernelRoute(
        family=_FAMILIES[family],
        address=text_of(destination) if destination else "",
        prefix=prefix,
        table=_number(found, _RTA_TABLE) or table,
        type=kind,
        protocol=protocol,
        device=_number(found, _RTA_OIF),
        metric=_number(found, _RTA_PRIORITY),
        hops=tuple(_hops(found.get(_RTA_MULTIPATH, b""))),
        on_link=_RTA_OIF in found and not found.keys() & {_RTA_GATEWAY, _RTA_VIA, _RTA_MULTIPATH, _RTA_NH_ID},
    )


def encode_rule(rule: Rule) -> bytes:
    """Encode a rule for RTM_NEWRULE and RTM_DELRULE."""
    action = _GOTO if rule.goto else _TO_TABLE
    fixed = _ROUTE.pack(_AF[rule.family], 0, 0, 0, 0, 0, 0, action, _RULE_PERMANENT_FLAGS)
    numbers = ((_FRA_PRIORITY, rule.preference), (_FRA_TABLE, rule.table), (_FRA_GOTO, rule.goto))
    parts = [attribute(kind, _U32.pack(value)) for kind, value in numbers if value]
    if rule.mask:
        parts += [attribute(_FRA_FWMARK, _U32.pack(rule.mark)), attribute(_FRA_FWMASK, _U32.pack(rule.mask))]
    if rule.input_device:
        parts.append(attribute(_FRA_IIFNAME, rule.input_device.encode() + b"\0"))
    if rule.protocol:
        parts.append(attribute(_FRA_PROTOCOL, bytes((rule.protocol,))))
    return fixed + b"".join(parts)


def decode_rule(payload: bytes) -> Rule:
    """Decode a listed rule."""
    family, _, _, _, table, _, _, action, _ = _ROUTE.unpack_from(payload)
    found = attributes(payload, _ROUTE.size)
    return Rule(
        family=_FAMILIES[family],
        preference=_number(found, _FRA_PRIORITY),
        table=(_number(found, _FRA_TABLE) or table) if action == _TO_TABLE else 0,
        goto=_number(found, _FRA_GOTO),
        mark=_number(found, _FRA_FWMARK),
        mask=_number(found, _FRA_FWMASK),
        input_device=_name(found, _FRA_IIFNAME),
        protocol=found.get(_FRA_PROTOCOL, b"\0")[0],
    )


def rules(kernel: NetlinkSocket, family: Family) -> list[Rule]:
    """List the policy rules of a family."""
    return [decode_rule(payload) for payload in kernel.dump(GETRULE, _ROUTE.pack(_AF[family], 0, 0, 0, 0, 0, 0, 0, 0))]


def routes(kernel: NetlinkSocket, family: Family, table: int, protocol: int = 0) -> list[KernelRoute]:
    """List the routes of one table, filtered by the kernel; protocol 0: of every protocol. A table that is not there has none."""
    fixed = _ROUTE.pack(_AF[family], 0, 0, 0, 0, protocol, 0, 0, 0)
    try:
        payloads = kernel.dump(GETROUTE, fixed + attribute(_RTA_TABLE, _U32.pack(table)))
    except NetlinkError as error:
        if error.number != errno.ENOENT:
            raise
        return []
    listed = map(decode_route, payloads)
    return [route for route in listed if route.table == table and protocol in (0, route.protocol)]


def matching_route(kernel: NetlinkSocket, address: str) -> KernelRoute | None:
    """Give the route that the kernel would take to an address (RTM_F_FIB_MATCH); None: it has none. Raises NetlinkError."""
    family = family_of(address)
    fixed = _ROUTE.pack(_AF[family], _BITS[family], 0, 0, 0, 0, 0, 0, _FIB_MATCH)
    answer = kernel.request(GETROUTE, fixed + attribute(_RTA_DST, packed(address)))
    return decode_route(answer.payload) if answer else None


def addresses(kernel: NetlinkSocket) -> Iterator[InterfaceAddress]:
    """List the addresses of all devices, in the kernel's order, which is that of their configuration."""
    for family in _AF.values():
        for payload in kernel.dump(GETADDR, _ADDRESS.pack(family, 0, 0, 0, 0)):
            _, prefix, flags, scope, device = _ADDRESS.unpack_from(payload)
            found = attributes(payload, _ADDRESS.size)
            # IFA_LOCAL is the own end of a point-to-point link, IFA_ADDRESS the peer's; IFA_FLAGS has more bits than the header.
            raw = found.get(2) or found.get(1)
            if raw:
                yield InterfaceAddress(text_of(raw), prefix, device, scope, _number(found, 8) or flags)


def links(kernel: NetlinkSocket) -> Iterator[Link]:
    """List the network devices."""
    for payload in kernel.dump(GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(payload)
        yield Link(index, _name(attributes(payload, _LINK.size), 3), flags)


def host_prefix(family: Family) -> int:
    """Give the prefix length of a single address."""
    return _BITS[family]


def _hops(raw: bytes) -> Iterator[int]:
    """Give the devices of a multipath route: struct rtnexthop is length, flags, hops and interface, attributes follow."""
    offset = 0
    while offset + _HOP.size <= len(raw):
        length, device = _HOP.unpack_from(raw, offset)
        if length < _HOP.size:
            return
        yield device
        offset += (length + 3) & ~3


def _number(found: dict[int, bytes], kind: int) -> int:
    raw = found.get(kind)
    return int(_U32.unpack(raw)[0]) if raw is not None and len(raw) == _U32.size else 0


def _name(found: dict[int, bytes], kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode("utf-8", "replace")
