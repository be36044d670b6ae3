"""What this node is like now, for policy: its addresses, and which of them serve node ports.

Owns joining the Node object, the settings and the kernel's answer. Decides nothing about Services.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from uproxy.core.policy import NodeView
from uproxy.redirect import node_addresses

if TYPE_CHECKING:
    from uproxy.config import Config
    from uproxy.core.model import Node


def read(config: Config, node: Node | None) -> NodeView:
    """Read the node's addresses from the kernel; raises NetlinkError. node: the own Node object, if one was seen."""
    found = node_addresses.read()
    serving = (
        tuple(sorted(address for address in found.texts if _is_in(address, config.node_port_addresses)))
        if config.node_port_addresses
        else tuple(node_addresses.primary(found, node.addresses if node else ()).values())
    )
    return NodeView(config.node_name, serving, found.texts, loopback_vips=config.redirect == "none")


def _is_in(address: str, cidrs: tuple[str, ...]) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)
