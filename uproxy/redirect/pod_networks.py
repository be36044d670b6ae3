"""Where this node's pods are: the networks that detectLocalMode stands for.

Owns reading them from the kernel where they are not in the settings. Must not know what follows from being a pod.
Modes are kube-proxy's (KubeProxyConfiguration.detectLocalMode). Without one, and with ClusterCIDR for a family that it has none
of, the own Node's podCIDRs count, and for a family without these the host routes of devices other than the default
route's: how network plugins reach a pod of this node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from uproxy.core.model import Family, family_of
from uproxy.redirect.netlink import NETLINK_ROUTE, NetlinkSocket
from uproxy.redirect.policy_routes import PROTOCOL, families
from uproxy.redirect.rtnetlink import TABLE_MAIN, UNICAST, KernelRoute, host_prefix, links, routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Detection(NamedTuple):
    """How pods of this node are told: the mode ("" for none), and what it needs."""

    mode: str = ""
    cluster_cidrs: tuple[str, ...] = ()
    bridge: str = ""
    prefix: str = ""

    @property
    def by_device(self) -> bool:
        """Whether the device tells that leads to an address."""
        return self.mode in {"BridgeInterface", "InterfaceNamePrefix"}

    def is_meant(self, device: str) -> bool:
        """Tell whether pods are behind the device of this name."""
        return device == self.bridge if self.mode == "BridgeInterface" else device.startswith(self.prefix)


BY_NODE: Final = Detection()
"""No mode: the own Node's podCIDRs or the routes tell."""


def devices(kernel: NetlinkSocket, detection: Detection) -> frozenset[int]:
    """Give the devices behind which pods are. Raises NetlinkError."""
    return frozenset(link.number for link in links(kernel) if detection.is_meant(link.name))


def read(detection: Detection, node_cidrs: tuple[str, ...]) -> tuple[str, ...]:
    """Give the CIDRs of this node's pods; with mode ClusterCIDR those of all pods. Raises NetlinkError."""
    if detection.mode == "NodeCIDR":
        return node_cidrs
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        if detection.by_device:
            return tuple(_behind(kernel, detection))
        known = detection.cluster_cidrs if detection.mode == "ClusterCIDR" else ()
        known += tuple(cidr for cidr in node_cidrs if family_of(cidr) not in set(map(family_of, known)))
        return (*known, *_host_routes(kernel, set(map(family_of, known))))


def _behind(kernel: NetlinkSocket, detection: Detection) -> Iterator[str]:
    """Give the networks behind the bridge, or behind the devices whose names begin alike."""
    meant = devices(kernel, detection)
    for route in _unicast(kernel, families()):
        if route.prefix and route.device in meant:
            yield f"{route.address}/{route.prefix}"


def _host_routes(kernel: NetlinkSocket, known: set[Family]) -> Iterator[str]:
    for family in set(families()) - known:
        listed = list(_unicast(kernel, (family,)))
        outward = {device for route in listed if not route.prefix for device in (route.device, *route.hops)}
        for route in listed:
            if route.prefix == host_prefix(family) and route.on_link and route.device not in outward:
                yield f"{route.address}/{route.prefix}"


def _unicast(kernel: NetlinkSocket, wanted: Iterable[Family]) -> Iterator[KernelRoute]:
    for family in wanted:
        yield from (route for route in routes(kernel, family, TABLE_MAIN) if route.type == UNICAST and route.protocol != PROTOCOL)
