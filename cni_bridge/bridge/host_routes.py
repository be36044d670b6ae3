"""A route of the node to each pod whose address has a host's prefix.

Owns the routes to /32 and /128 over the bridge that carry our protocol number; `ip route show proto 109` lists them.
"""

from __future__ import annotations

from cni_bridge.netlink import address, route
from cni_bridge.netlink.route import Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_bridge.netlink.connection import Connection

PROTOCOL = 109
"""rtm_protocol: nobody's in linux/rtnetlink.h or iproute2's rt_protos, so that ours are told from everybody else's."""


def _to(pod: bytes, index: int) -> Route:
    made = Route(pod, len(pod) * 8, index, scope=route.LINK_SCOPE)
    made.protocol = PROTOCOL
    return made


def add(connection: Connection, pods: Iterable[bytes], index: int) -> None:
    """Lead to each pod over the interface of that index; a route left behind by an earlier pod is replaced."""
    connection.perform(*[route.replace(_to(pod, index)) for pod in pods])


def remove(connection: Connection, pods: Iterable[bytes], index: int) -> None:
    """Remove the routes to the pods; those that are gone are no error."""
    messages = [route.delete(_to(pod, index)) for pod in pods]
    if messages:
        connection.perform(*messages)


def over(connection: Connection, index: int) -> list[bytes]:
    """List the pods that our routes over the interface lead to."""
    found = []
    for family in (address.IPV4, address.IPV6):
        there = map(route.parse, connection.dump(route.dump(family, index)))
        found += [one.dst for one in there if one.protocol == PROTOCOL and one.index == index and one.prefix == len(one.dst) * 8]
    return found


def leads_to(connection: Connection, pod: bytes, index: int) -> bool:
    """Tell whether packets to the pod take a route of its own over the interface."""
    answer = connection.perform(route.match(pod))[0]
    found = route.parse(answer[0]) if answer else None
    return found is not None and (found.dst, found.prefix, found.index) == (pod, len(pod) * 8, index)
