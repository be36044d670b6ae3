"""STATUS: whether an ADD could be served, and whether the pods that there are have what they need.

Owns that judgement; changes nothing. Code 50 says no to the first, 51 to the second (specification, section 2, "STATUS").
"""

from __future__ import annotations

from cni_bridge import sysctl
from cni_bridge.bridge.config import Settings
from cni_bridge.bridge.failures import told
from cni_bridge.bridge.interfaces import find
from cni_bridge.bridge.ipam import Ipam
from cni_bridge.fast import posix
from cni_bridge.netlink import address, link
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.protocol.errors import UNAVAILABLE, UNAVAILABLE_AND_IMPAIRED, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.netlink.link import Link
    from cni_bridge.protocol.skeleton import Request

_FORWARDING = "ipv4/ip_forward"
_GLOBAL = 0  # RT_SCOPE_UNIVERSE


def run(request: Request) -> None:
    """Do what `verbs.status` promises."""
    settings = Settings(request)
    try:
        with Connection() as connection:
            _check(connection, settings)
        Ipam(request, settings.ipam).run("STATUS")
    except (NetlinkError, OSError) as error:
        raise told(error) from None


def _check(connection: Connection, settings: Settings) -> None:
    """Raise CniError 50 or 51 when something is wrong; OSError and NetlinkError when that cannot be told."""
    bridge = find(connection, settings.bridge)
    if bridge is not None and bridge.kind != "bridge":
        raise CniError(UNAVAILABLE, f'"{settings.bridge}" already exists but is not a bridge')
    if settings.is_gateway and sysctl.read(_FORWARDING) != "1":
        _check_that_forwarding_can_be_turned_on()
    if bridge is not None and settings.ipam and settings.is_gateway and _has_pods(connection, bridge):
        _check_gateway(connection, bridge, settings)


def _check_that_forwarding_can_be_turned_on() -> None:
    try:
        posix.close(posix.open(f"/proc/sys/net/{_FORWARDING}", posix.O_WRONLY | posix.O_CLOEXEC))
    except OSError as error:
        raise CniError(UNAVAILABLE, f"forwarding is off and cannot be turned on: {error.strerror}", f"net/{_FORWARDING}") from None


def _has_pods(connection: Connection, bridge: Link) -> bool:
    return any(link.Link(payload).master == bridge.index for payload in connection.dump(link.dump(bridge.index)))


def _check_gateway(connection: Connection, bridge: Link, settings: Settings) -> None:
    holder = find(connection, settings.gateway_interface) if settings.vlan else bridge
    if holder is None or not holder.is_up:
        state = "down" if holder else "missing"
        raise CniError(UNAVAILABLE_AND_IMPAIRED, f'"{settings.gateway_interface}", the gateway of pods that exist, is {state}')
    there = address.of_interface(connection.dump(address.dump(holder.index)), holder.index)
    if not any(one.scope == _GLOBAL for one in there):
        raise CniError(UNAVAILABLE_AND_IMPAIRED, f'"{holder.name}", the gateway of pods that exist, has lost its address')
