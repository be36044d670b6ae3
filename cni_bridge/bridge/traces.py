"""Where DEL looks for what the attachment's own name does not lead to: inside the container, and in the previous result.

Apart from `detach` because few requests need it: those for pairs that the reference plugin made, and for pods with a host's prefix.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.bridge.interfaces import find
from cni_bridge.fast import posix
from cni_bridge.namespace import Inside, NotANamespace, open_path
from cni_bridge.netlink import address, link
from cni_bridge.netlink.connection import Connection
from cni_bridge.protocol.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request


def remove_foreign_link(connection: Connection, request: Request) -> None:
    """Delete what the reference plugin made: the container's end where there is a namespace, else the host's end by the result."""
    netns = _open_if_there(request.netns)
    if netns >= 0:
        try:
            with Inside(netns), Connection() as inside:
                inside.perform(link.delete(request.ifname))
        finally:
            posix.close(netns)
        return
    for name in _reported_host_ends(request):
        found = find(connection, name)
        if found is not None and found.kind == "veth" and not found.alias:
            connection.perform(link.delete(name))


def _reported_host_ends(request: Request) -> list[str]:
    """Give the host's veth of the previous result; the bridge and its legs are others' too."""
    found = _previous(request)
    interfaces = found["interfaces"] if found else []
    return [one["name"] for one in interfaces if not one.get("sandbox") and one["name"].startswith("veth")]


def _previous(request: Request) -> Result | None:
    """Give the previous result; one that cannot be read is no reason to keep anything."""
    try:
        return request.prev_result
    except CniError:
        return None


def addresses_inside(request: Request) -> list[bytes]:
    """Give the addresses of the container's interface; none when there is no such thing any more."""
    netns = _open_if_there(request.netns)
    if netns < 0:
        return []
    try:
        with Inside(netns), Connection() as inside:
            found = find(inside, request.ifname)
            there = address.of_interface(inside.dump(address.dump(found.index)), found.index) if found else []
    finally:
        posix.close(netns)
    return [one.address for one in there]


def reported_addresses(request: Request) -> list[bytes]:
    """Give the addresses of the previous result."""
    found = _previous(request)
    return [addresses.parse_cidr(ip["address"])[0] for ip in found["ips"]] if found else []


def _open_if_there(path: str) -> int:
    """Open a namespace; -1 when there is none any more."""
    if not path:
        return -1
    try:
        return open_path(path)
    except (OSError, ValueError, NotANamespace):
        return -1
