"""Whether upstream connections keep the client's address, asked of the kernel's routing and remembered.

Owns the look-ups and their memory, which any change of links, addresses, rules or routes empties. The decision
is core.source_address'. Called on the loop for each connection: 1 us when both places are known, else one or two
look-ups of 20 us. Invariant: what cannot be looked up is in doubt, and then the node's address is used.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from uproxy.core.source_address import Path, Placement, Pods, keeps_client, placement_of
from uproxy.redirect import notifications, policy_routes
from uproxy.redirect.netlink import NETLINK_ROUTE, NetlinkError, NetlinkSocket
from uproxy.redirect.pod_networks import BY_NODE, Detection, devices
from uproxy.redirect.rtnetlink import LOCAL, TABLE_MAIN, host_prefix, matching_route, routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uproxy.core.model import Endpoint

# Addresses remembered, 200 bytes each; when there are more all are forgotten, so that a flood of clients costs look-ups, not memory.
_REMEMBERED: Final = 65536


class ClientAddresses:
    """Tells for each connection whether it keeps the client's address. pod_cidrs: of the own Node; detection: the settings."""

    def __init__(self, pod_cidrs: Iterable[str] = (), detection: Detection = BY_NODE) -> None:
        self._kernel = NetlinkSocket(NETLINK_ROUTE)
        self._places: dict[str, Placement] = {}
        self._default_devices: frozenset[int] | None = None
        self._watch: notifications.Watch | None = None
        self._pods: Pods | None = None
        self._told = (tuple(pod_cidrs), detection)

    def set_pod_cidrs(self, pod_cidrs: Iterable[str], detection: Detection = BY_NODE) -> None:
        """Take the own Node's podCIDRs, canonical ones, and how pods are told."""
        told = (tuple(pod_cidrs), detection)
        if told != self._told:
            self._told = told
            self.forget()

    def keeps(self, client: str, endpoint: Endpoint) -> bool:
        """Say whether a connection from client to endpoint may carry the client's address."""
        places = self._places
        at = places.get(endpoint.address) or self._find(endpoint.address)
        return keeps_client(client, places.get(client) or self._find(client), endpoint.address, at)

    def watch(self, changed: Callable[[], None]) -> None:
        """Forget what is remembered whenever the kernel's routing changes, and call changed(). On the running loop; raises NetlinkError."""

        def forget() -> None:
            self.forget()
            changed()

        self._watch = notifications.placement_changes(policy_routes.PROTOCOL, forget)

    def forget(self) -> None:
        """Look everything up again."""
        self._places.clear()
        self._default_devices = self._pods = None

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.close()
        self._kernel.close()

    def _find(self, address: str) -> Placement:
        if len(self._places) >= _REMEMBERED:
            self._places.clear()
        path = self._path(address)
        found = placement_of(address, path, self._pods or self._find_pods())
        self._places[address] = found
        return found

    def _find_pods(self) -> Pods:
        """Say what tells pods. Which devices there are is asked once, until links change; if the kernel does not say there are none."""
        cidrs, detection = self._told
        behind: frozenset[int] | None = None
        if detection.by_device:
            try:
                behind = devices(self._kernel, detection)
            except (NetlinkError, OSError):
                behind = frozenset()
        within = detection.cluster_cidrs if detection.mode == "ClusterCIDR" else ()
        networks = (tuple(map(ipaddress.ip_network, each)) for each in (cidrs, within))
        node_cidrs, cluster_cidrs = networks
        self._pods = Pods(node_cidrs, detection.mode == "NodeCIDR", cluster_cidrs, behind)
        return self._pods

    def _path(self, address: str) -> Path | None:
        try:
            route = matching_route(self._kernel, address)
            if route is None:
                return None
            whole = route.prefix == host_prefix(route.family)
            # The default route's device matters for host routes alone: listing routes is dear.
            by_default = whole and route.on_link and route.device in self._by_default()
        except (NetlinkError, OSError):
            return None
        return Path(route.type == LOCAL, whole, route.on_link, route.device, by_default)

    def _by_default(self) -> frozenset[int]:
        if self._default_devices is None:
            listed = [route for family in policy_routes.families() for route in routes(self._kernel, family, TABLE_MAIN)]
            self._default_devices = frozenset(device for route in listed if not route.prefix for device in (route.device, *route.hops))
        return self._default_devices
