"""What this node is like now, for policy: its addresses, which of them serve node ports, and where its pods are.

Owns joining the Node object, the settings and the kernel's answer. Decides nothing about Services.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from uproxy.config_rules import NODE_PORT_WORDS
from uproxy.core.model import Family, family_of
from uproxy.core.networks import joined
from uproxy.core.policy import NodeView
from uproxy.redirect import node_addresses, pod_networks
from uproxy.redirect.pod_networks import Detection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uproxy.config import Config
    from uproxy.core.model import Node
    from uproxy.redirect.node_addresses import NodeAddresses


def read(config: Config, node: Node | None) -> NodeView:
    """Read the node's addresses and routes from the kernel; raises NetlinkError. node: the own Node object, if one was seen."""
    found = node_addresses.read()
    pods = pod_networks.read(detection(config), node.pod_cidrs if node else ())
    return NodeView(
        config.node_name,
        _serving(found, config.node_port_addresses, (config.bind_address, *(node.addresses if node else ()))),
        found.texts,
        loopback_vips=config.redirect == "none",
        zone=node.zone if node else "",
        external_ips=config.allow_external_ips,
        inside=joined((*pods, *found.texts)),
        idle_timeout=config.tcp.idle_timeout or 0.0,
    )


def detection(config: Config) -> Detection:
    """Say how the pods of this node are told."""
    return Detection(config.detect_local_mode, config.cluster_cidrs, config.pod_bridge_interface, config.pod_interface_name_prefix)


def _serving(found: NodeAddresses, wanted: tuple[str, ...], stated: tuple[str, ...]) -> tuple[str, ...]:
    """Give the node's addresses that CIDRs and the words primary, localhost and all stand for, each listened on by itself.

    A family that nothing is said of has its primary address, as in kube-proxy's nftables mode. stated: addresses that are
    primary if the node has them.
    """
    serving: dict[str, None] = {}
    first = node_addresses.primary(found, stated)
    for family in Family:
        own = sorted(address for address in found.texts if family_of(address) is family)
        for one in _said_of(family, wanted) or ("primary",):
            meant = first.values() if one == "primary" else [address for address in own if _is_meant(address, one)]
            serving.update(dict.fromkeys(address for address in meant if family_of(address) is family))
    return tuple(serving)


def _said_of(family: Family, wanted: Iterable[str]) -> list[str]:
    """Give the words, and the CIDRs of one family."""
    return [one for one in wanted if one in NODE_PORT_WORDS or family_of(one) is family]


def _is_meant(address: str, wanted: str) -> bool:
    """Tell whether an address of the node is meant. all leaves out loopback ones, as kube-proxy does, and those of one link only."""
    parsed = ipaddress.ip_address(address)
    if wanted == "localhost":
        return address in {"127.0.0.1", "::1"}
    if wanted == "all":
        return not parsed.is_loopback and not parsed.is_link_local
    return parsed in ipaddress.ip_network(wanted, strict=False)
