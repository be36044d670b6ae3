"""Letting the host's loopback addresses reach a container: route_localnet on the interface that leads to it.

Owns that setting. Without it the kernel drops packets from 127.0.0.0/8 that leave by any other interface than lo, before
masquerading changes their source. IPv6 has no such setting.
"""

from __future__ import annotations

from cni_bridge import sysctl
from cni_bridge.netlink import link, route
from cni_bridge.netlink.connection import Connection


def allow(address: bytes) -> None:
    """Turn it on where packets to the IPv4 address leave; without a route there is nowhere. Raises NetlinkError, OSError."""
    with Connection() as connection:
        answers = connection.perform(route.match(address))[0]
        found = link.first(connection.perform(link.get_index(route.parse(answers[0]).index))[0]) if answers else None
    if found is not None:
        sysctl.ensure(f"ipv4/conf/{found.name}/route_localnet", "1")
