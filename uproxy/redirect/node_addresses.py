"""The addresses that this node has, and which of each family is its primary one.

Owns reading them and the choice. Must not know what listens on them. Invariant: an address that is not usable on
the node now (tentative, a duplicate, link-local, loopback) is never primary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from uproxy.core.model import Family, family_of
from uproxy.redirect.netlink import NETLINK_ROUTE, NetlinkSocket
from uproxy.redirect.policy_routes import families
from uproxy.redirect.rtnetlink import LOOPBACK, TABLE_MAIN, InterfaceAddress, addresses, routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# IFA_F_* of if_addr.h: these addresses cannot be used, or should not be for something new.
_TENTATIVE: Final = 0x40
_DUPLICATE: Final = 0x08
_DEPRECATED: Final = 0x20
_GLOBAL: Final = 0


class NodeAddresses(Struct, frozen=True):
    """What a node has. every: all addresses, in the kernel's order; default_devices: those of the default routes, best first."""

    every: tuple[InterfaceAddress, ...] = ()
    default_devices: Mapping[Family, tuple[int, ...]] = {}

    @property
    def texts(self) -> frozenset[str]:
        """All addresses as canonical text, loopback included."""
        return frozenset(address.address for address in self.every)


def read() -> NodeAddresses:
    """Read them from the kernel; raises NetlinkError."""
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        found = tuple(address for address in addresses(kernel) if not address.flags & (_TENTATIVE | _DUPLICATE))
        devices = {
            family: tuple(
                device
                for route in sorted(routes(kernel, family, TABLE_MAIN), key=lambda route: route.metric)
                if not route.prefix
                for device in (route.device, *route.hops)
                if device
            )
            for family in families()
        }
    return NodeAddresses(found, devices)


def primary(found: NodeAddresses, of_node: Iterable[str] = ()) -> dict[Family, str]:
    """Give the primary address of each family that has one.

    of_node: the addresses that the Node object states, InternalIPs first: the first of a family that the node really
    has; else the first address of the default route's device; else the first global one.
    """
    chosen: dict[Family, str] = {}
    stated = [address for address in of_node if address in found.texts]
    for family in Family:
        usable = [address for address in found.every if family_of(address.address) is family and _is_usable(address)]
        ranked = [address.address for device in found.default_devices.get(family, ()) for address in usable if address.device == device]
        candidates = [address for address in stated if family_of(address) is family] + ranked + [address.address for address in usable]
        if candidates:
            chosen[family] = candidates[0]
    return chosen


def _is_usable(address: InterfaceAddress) -> bool:
    return address.scope == _GLOBAL and address.device != LOOPBACK and not address.flags & _DEPRECATED
