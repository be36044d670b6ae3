"""The policy rules and routes that deliver marked packets to uproxy, and VIPs as local addresses.

Owns their numbers, which are how a later version finds what an earlier one left: preferences, tables and the
route protocol. Must not know of ports. Blocking: called on the back end's own thread. Raises NetlinkError.
Invariant: nothing that another program installed is touched; what is there already is not written again.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uproxy.core.model import Family, family_of
from uproxy.redirect.netlink import CREATE, EXCLUSIVE, NetlinkError, NetlinkSocket
from uproxy.redirect.rtnetlink import (
    DELROUTE,
    DELRULE,
    LOCAL,
    LOOPBACK,
    NEWROUTE,
    NEWRULE,
    TABLE_LOCAL,
    UNICAST,
    KernelRoute,
    Rule,
    encode_route,
    encode_rule,
    host_prefix,
    routes,
    rules,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROTOCOL: Final = 97
"""The route protocol of everything that uproxy installs; not assigned in rtnetlink.h or /etc/iproute2/rt_protos."""
VIPS: Final = 9701
EVERYTHING: Final = 9702
UNROUTED: Final = 9703
TABLES: Final = (VIPS, EVERYTHING, UNROUTED)
PREFERENCES: Final = (970, 971, 972, 32970)
_MAIN_RULE: Final = 32766
_NO_IPV6: Final = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
_THERE_ALREADY: Final = frozenset({errno.EEXIST})
_GONE_ALREADY: Final = frozenset({errno.ESRCH, errno.ENOENT})


def families() -> tuple[Family, ...]:
    """Give the families that this network namespace has; IPv6 can be off in the kernel or for the loopback device."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
        off = _NO_IPV6.read_text(encoding="ascii").strip() == "1"
    except OSError:
        off = True
    return (Family.IPV4,) if off else (Family.IPV4, Family.IPV6)


def delivery_rules(family: Family, mark: int) -> tuple[Rule, ...]:
    """Give the rules that send marked packets to the loopback device.

    The second answers the kernel's own source check (fib_validate_source) as if there were no mark; the last lets
    the host send to VIPs when it has no default route, and must say iif lo, else forwarded packets would circle.
    """
    vips, ordinary, everything, unrouted = PREFERENCES
    return (
        Rule(family, vips, table=VIPS, mark=mark, mask=mark, input_device="lo", protocol=PROTOCOL),
        Rule(family, ordinary, goto=_MAIN_RULE, mark=mark, mask=mark, input_device="lo", protocol=PROTOCOL),
        Rule(family, everything, table=EVERYTHING, mark=mark, mask=mark, protocol=PROTOCOL),
        Rule(family, unrouted, table=UNROUTED, input_device="lo", protocol=PROTOCOL),
    )


def rewritten(vip: str) -> tuple[KernelRoute, ...]:
    """Give the routes of a VIP whose packets are marked: local for them, and a way to it for the host itself."""
    family = family_of(vip)
    prefix = host_prefix(family)
    return (
        KernelRoute(family, vip, prefix, VIPS, LOCAL, PROTOCOL, LOOPBACK),
        KernelRoute(family, vip, prefix, UNROUTED, UNICAST, PROTOCOL, LOOPBACK),
    )


def direct(vip: str) -> tuple[KernelRoute, ...]:
    """Give the route that makes a VIP a local address."""
    family = family_of(vip)
    return (KernelRoute(family, vip, host_prefix(family), TABLE_LOCAL, LOCAL, PROTOCOL, LOOPBACK),)


RoutesOfVip = Callable[[str], tuple[KernelRoute, ...]]


class PolicyRoutes:
    """What one back end installs with rtnetlink. mark 0: no rules; per_vip: the routes of one VIP."""

    def __init__(self, kernel: NetlinkSocket, families: tuple[Family, ...], mark: int, per_vip: RoutesOfVip) -> None:
        self._kernel = kernel
        self._families = families
        self._per_vip = per_vip
        self._rules = frozenset(rule for family in families if mark for rule in delivery_rules(family, mark))
        self._always = frozenset(KernelRoute(family, "", 0, EVERYTHING, LOCAL, PROTOCOL, LOOPBACK) for family in families if mark)
        self._tables = TABLES if mark else (TABLE_LOCAL,)

    def add(self, vips: Iterable[str]) -> None:
        """Install the routes of VIPs."""
        self._install(route for vip in vips for route in self._routes_of(vip))

    def remove(self, vips: Iterable[str]) -> None:
        """Remove the routes of VIPs."""
        _withdraw(self._kernel, (route for vip in vips for route in self._routes_of(vip)))

    def matches(self, vips: frozenset[str]) -> bool:
        """Say whether exactly the rules and routes are there that these VIPs need."""
        return self._rules_found() == self._rules and self._routes_found() == self._wanted(vips)

    def repair(self, vips: frozenset[str]) -> frozenset[KernelRoute]:
        """Install what is missing for these VIPs; give the routes that are too many, for discard() once nothing leads there."""
        there = self._rules_found()
        # New rules first: at no moment are there none.
        self._kernel.batch(((NEWRULE, CREATE | EXCLUSIVE, encode_rule(rule)) for rule in self._rules - there), _THERE_ALREADY)
        self._kernel.batch(((DELRULE, 0, encode_rule(rule)) for rule in there - self._rules), _GONE_ALREADY)
        found, wanted = self._routes_found(), self._wanted(vips)
        self._install(wanted - found)
        return found - wanted

    def discard(self, surplus: Iterable[KernelRoute]) -> None:
        """Remove routes that repair() named."""
        _withdraw(self._kernel, surplus)

    def _install(self, wanted: Iterable[KernelRoute]) -> None:
        # Exclusive: replacing could take a route of the kernel's own away, of an address that the node has.
        self._kernel.batch(((NEWROUTE, CREATE | EXCLUSIVE, encode_route(route)) for route in wanted), _THERE_ALREADY)

    def _routes_of(self, vip: str) -> Iterator[KernelRoute]:
        return (route for route in self._per_vip(vip) if route.family in self._families)

    def _wanted(self, vips: frozenset[str]) -> frozenset[KernelRoute]:
        return self._always.union(route for vip in vips for route in self._routes_of(vip))

    def _rules_found(self) -> frozenset[Rule]:
        return frozenset(rule for family in self._families for rule in rules(self._kernel, family) if _is_ours(rule))

    def _routes_found(self) -> frozenset[KernelRoute]:
        return frozenset(
            route._replace(metric=0)  # IPv6 gives every route one
            for family in self._families
            for table in self._tables
            for route in routes(self._kernel, family, table, PROTOCOL)
        )


def _is_ours(rule: Rule) -> bool:
    return rule.protocol == PROTOCOL and rule.preference in PREFERENCES


def _withdraw(kernel: NetlinkSocket, unwanted: Iterable[KernelRoute]) -> None:
    kernel.batch(((DELROUTE, 0, encode_route(route)) for route in unwanted), _GONE_ALREADY)


def remove_all(kernel: NetlinkSocket) -> tuple[int, list[str]]:
    """Remove the rules and routes of every back end and version; give how many there were, and what could not be removed and why."""
    removed = 0
    failed: list[str] = []
    for family in families():
        try:
            surplus = [rule for rule in rules(kernel, family) if _is_ours(rule)]
            kernel.batch(((DELRULE, 0, encode_rule(rule)) for rule in surplus), _GONE_ALREADY)
            left = [route for table in (*TABLES, TABLE_LOCAL) for route in routes(kernel, family, table, PROTOCOL)]
            _withdraw(kernel, left)
            removed += len(surplus) + len(left)
        except NetlinkError as error:
            failed.append(f"IPv{family} rules and routes of protocol {PROTOCOL}: {error}")
    return removed, failed
