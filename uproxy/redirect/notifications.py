"""Being told by the kernel that somebody else changed what concerns uproxy, without reading what does not.

Owns the netlink sockets that listen, and the filters that run in the kernel (classic BPF, SO_ATTACH_FILTER), so
that a busy routing daemon or another firewall's 10,000 elements cost this process nothing. Must not know what to
do about a change. Invariant: when messages were lost (ENOBUFS) it says that something changed.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from uproxy import socket_filter
from uproxy.redirect import nfnetlink, rtnetlink
from uproxy.redirect.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_NFNLGRP_NFTABLES: Final = 7
_LINK_GROUP: Final = 1
_ADDRESS_GROUPS: Final = (5, 9)
_ROUTE_GROUPS: Final = (7, 11)
_RULE_GROUPS: Final = (8, 19)
# Reads per turn of the loop; what is left wakes the loop again.
_READS: Final = 32

# Offsets into a message: the header is 16 bytes; struct rtmsg and struct ifinfomsg follow it in NETLINK_ROUTE,
# struct nfgenmsg (4 bytes) and the table's name as first attribute in NETLINK_NETFILTER.
_TYPE: Final = 4
_SENDER: Final = 12
_ROUTE_PROTOCOL: Final = 21
_LINK_NUMBER: Final = 20
_RULE_TABLE: Final = 20
_RULE_ACTION: Final = 23
_TABLE_IN_ATTRIBUTE: Final = b"\xfc"
_GOTO: Final = b"\x02"
_TABLE_NAME: Final = 24

_LOAD: Final = {1: 0x30, 2: 0x28, 4: 0x20}
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_WHOLE: Final = 0xFFFFFFFF


class Field(NamedTuple):
    """A comparison of the bytes at an offset with values of 1, 2 or 4 bytes: one of them, or with is_one=False not the only one."""

    offset: int
    values: tuple[bytes, ...]
    is_one: bool = True


Fields = tuple[Field, ...]


def passing(*alternatives: Fields) -> list[tuple[int, int, int, int]]:
    """Compile a filter that passes a message for which all fields of one alternative hold, and drops every other one.

    A load beyond a message's end drops it. Instructions are (code, jump if true, jump if false, operand) of
    linux/filter.h; multi-byte loads are in network order, hence values as bytes.
    """
    program: list[tuple[int, int, int, int]] = []
    for fields in alternatives:
        program += _alternative(fields)
    return [*program, (_RETURN, 0, 0, 0)]


def _alternative(fields: Iterable[Field]) -> list[tuple[int, int, int, int]]:
    """Compile one alternative, which ends by passing or falls through to what follows it."""
    code: list[tuple[int, int, int, int]] = [(_RETURN, 0, 0, _WHOLE)]
    for field in reversed(list(fields)):
        jumps: list[tuple[int, int, int, int]] = []
        for place, value in enumerate(reversed(field.values)):
            # The last comparison jumps over the rest of the alternative when it fails, the others fall to the next.
            otherwise = len(code) if place == 0 else 0
            targets = (place, otherwise) if field.is_one else (otherwise, place)
            jumps.insert(0, (_JUMP_IF_EQUAL, *targets, int.from_bytes(value, "big")))
        code = [(_LOAD[len(field.values[0])], 0, 0, field.offset), *jumps, *code]
    return code


def _types(*kinds: int) -> Field:
    return Field(_TYPE, tuple(struct.pack("=H", kind) for kind in kinds))


class Watch:
    """One listening socket on the running loop: calls changed() once per turn in which something passed the filter.

    alternatives: what passes, as for passing(). Raises NetlinkError when it cannot listen.
    """

    def __init__(self, protocol: int, groups: Iterable[int], alternatives: tuple[Fields, ...], changed: Callable[[], None]) -> None:
        self._changed = changed
        self._alternatives = alternatives
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
        try:
            self._filter(alternatives)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            self._socket.close()
            raise NetlinkError(error.errno or 0, "listening for netlink notifications") from error
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def ignore(self, port: int) -> None:
        """Hear nothing more of what the netlink socket with this port does; one port at a time. Any thread may call it."""
        by_others = Field(_SENDER, (struct.pack("=I", port),), is_one=False)
        if self._socket.fileno() >= 0:
            self._filter(tuple((by_others, *fields) for fields in self._alternatives))

    def close(self) -> None:
        """Stop listening; changed() is not called any more."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _filter(self, alternatives: tuple[Fields, ...]) -> None:
        socket_filter.attach(self._socket, passing(*alternatives))

    def _readable(self) -> None:
        for _ in range(_READS):
            try:
                self._socket.recv(1)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
        self._changed()


def table_removals(table: str, changed: Callable[[], None]) -> Watch:
    """Listen for the removal of a table, or of anything in it. The name must have six characters."""
    name = table.encode() + b"\0"
    fields = (
        Field(_TYPE, tuple(bytes((kind,)) for kind in nfnetlink.DELETIONS)),
        Field(_TABLE_NAME, (name[:4],)),
        Field(_TABLE_NAME + 4, (name[4:6],)),
        Field(_TABLE_NAME + 6, (name[6:7],)),
    )
    return Watch(NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,), (fields,), changed)


def route_removals(protocol: int, changed: Callable[[], None]) -> Watch:
    """Listen for the removal of routes of a protocol and of rules like ours, and for changes of the loopback device, which drop routes.

    Rules like ours lead to a table numbered above 255 or go to another rule: a network plugin's one rule per pod does neither.
    """
    routes = (_types(rtnetlink.DELROUTE), Field(_ROUTE_PROTOCOL, (bytes((protocol,)),)))
    loopback = (_types(rtnetlink.NEWLINK, rtnetlink.DELLINK), Field(_LINK_NUMBER, (struct.pack("=I", rtnetlink.LOOPBACK),)))
    to_table = (_types(rtnetlink.DELRULE), Field(_RULE_TABLE, (_TABLE_IN_ATTRIBUTE,)))
    to_rule = (_types(rtnetlink.DELRULE), Field(_RULE_ACTION, (_GOTO,)))
    groups = (_LINK_GROUP, *_ROUTE_GROUPS, *_RULE_GROUPS)
    return Watch(NETLINK_ROUTE, groups, (routes, to_table, to_rule, loopback), changed)


def placement_changes(own_protocol: int, changed: Callable[[], None]) -> Watch:
    """Listen for changes of links, addresses, rules, and of routes that are not of our own protocol."""
    routes = (
        _types(rtnetlink.NEWROUTE, rtnetlink.DELROUTE),
        Field(_ROUTE_PROTOCOL, (bytes((own_protocol,)),), is_one=False),
    )
    links_and_addresses = (rtnetlink.NEWLINK, rtnetlink.DELLINK, rtnetlink.NEWADDR, rtnetlink.DELADDR)
    rest = (_types(*links_and_addresses, rtnetlink.NEWRULE, rtnetlink.DELRULE),)
    groups = (_LINK_GROUP, *_ADDRESS_GROUPS, *_ROUTE_GROUPS, *_RULE_GROUPS)
    return Watch(NETLINK_ROUTE, groups, (routes, rest), changed)
