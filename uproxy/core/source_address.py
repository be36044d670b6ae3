"""Whether an upstream connection may carry the client's address.

Owns the decision alone: the client's address is kept only where the endpoint's answer must come back through
this node's prerouting hook. Must not know how an address' place is found out. Invariant: in every doubt the
node's own address is used, which always works.
"""

from __future__ import annotations

import ipaddress

from msgspec import Struct

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Placement(Struct, frozen=True, gc=False):
    """Where an address is, as this node's routing sees it.

    reached: there is a route to it. own: it is an address of this node. local_pod: it is a pod of this node.
    host_route: its own /32 or /128 leads to it. device: index of the device that leads there; 0: not one certain device.
    """

    reached: bool = False
    own: bool = False
    local_pod: bool = False
    host_route: bool = False
    device: int = 0


class Path(Struct, frozen=True, gc=False):
    """What the kernel's most specific route to an address says. whole: it is /32 or /128. on_link: no gateway in between."""

    local: bool
    whole: bool
    on_link: bool
    device: int
    by_default_device: bool


class Pods(Struct, frozen=True):
    """What tells the pods of this node.

    node_cidrs: the own Node's podCIDRs, which decide if there is one of an address' family; else a host route does, unless
    node_cidrs_alone. within: where there is one of the family, pods are in one of these CIDRs besides: with those of all
    the cluster's pods it takes both, for what another node's pod is answered does not come back here. devices: if not None,
    a pod is what is reached through one of them, and nothing else counts.
    """

    node_cidrs: tuple[Network, ...] = ()
    node_cidrs_alone: bool = False
    within: tuple[Network, ...] = ()
    devices: frozenset[int] | None = None


def _is_pod(address: str, path: Path, pods: Pods) -> bool:
    if pods.devices is not None:
        return path.device in pods.devices
    parsed = ipaddress.ip_address(address)
    within = [network for network in pods.within if network.version == parsed.version]
    if within and not any(parsed in network for network in within):
        return False
    alike = [network for network in pods.node_cidrs if network.version == parsed.version]
    if alike or pods.node_cidrs_alone:
        return any(parsed in network for network in alike)
    return path.whole and path.on_link and not path.by_default_device


def placement_of(address: str, path: Path | None, pods: Pods) -> Placement:
    """Tell an address' place."""
    if path is None:
        return Placement()
    if path.local:
        return Placement(reached=True, own=True, device=path.device)
    is_pod = _is_pod(address, path, pods)
    return Placement(reached=True, local_pod=is_pod, host_route=path.whole and path.on_link, device=path.device)


def keeps_client(client_address: str, client: Placement, endpoint_address: str, endpoint: Placement) -> bool:
    """Decide whether a connection from client to endpoint may carry the client's address."""
    if client_address == endpoint_address or client.own or endpoint.own:
        return False
    share_a_device = client.device == endpoint.device
    if client.local_pod and endpoint.local_pod:
        return not share_a_device or (client.host_route and endpoint.host_route)
    if client.local_pod:
        return endpoint.reached and not share_a_device
    return endpoint.local_pod and not share_a_device
