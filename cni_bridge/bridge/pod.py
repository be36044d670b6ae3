"""The pod's end of the pair: settings, addresses, routes, up.

Owns everything inside the pod's namespace. Settings come before the link is up, so that the pod never listens to a
router's advertisement or asks whether its own address is taken.
"""

from __future__ import annotations

from cni_bridge import sysctl
from cni_bridge.bridge import plan as plans
from cni_bridge.namespace import Inside
from cni_bridge.netlink import address, link, route
from cni_bridge.netlink.connection import Connection
from cni_bridge.protocol.errors import IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.config import Settings
    from cni_bridge.bridge.plan import Plan


def configure(netns: int, index: int, ifname: str, settings: Settings, plan: Plan | None) -> None:
    """Bring the pod's end up, with the plan's addresses and routes; without a plan there are none.

    index: of the pod's end, 0 if that is not known. Raises CniError (105) when an address is taken already, NetlinkError, OSError.
    """
    with Inside(netns):
        connection = Connection()
        with connection:
            index = index or _index(connection, ifname)
            if plan is None:
                connection.perform(link.set_up(index, ifname))
                return
            _apply_settings(ifname, settings, plan)
            if settings.enabledad and plan.has_ipv6:
                from cni_bridge.bridge import settling  # noqa: PLC0415 - every import costs, and few networks ask for it

                settling.after(lambda: _apply(connection, index, ifname, settings, plan), connection, index, ifname)
            else:
                _apply(connection, index, ifname, settings, plan)


def _index(connection: Connection, ifname: str) -> int:
    """Ask for it: Linux before 5.10 leaves out the peer's index where it happens to be the interface's own."""
    found = link.first(connection.perform(link.get(ifname))[0])
    if found is None:
        raise CniError(IO_FAILURE, f"interface {ifname} vanished from the container as soon as it was made")
    return int(found.index)


def _apply_settings(ifname: str, settings: Settings, plan: Plan) -> None:
    sysctl.write_if_there(f"ipv4/conf/{ifname}/arp_notify", "1")
    sysctl.write_if_there(f"ipv6/conf/{ifname}/accept_dad", "1" if settings.enabledad else "0")
    if settings.enabledad:
        sysctl.write_if_there(f"ipv6/conf/{ifname}/enhanced_dad", "1")
    if plan.has_ipv6:
        for key, value in (
            ("lo/disable_ipv6", "0"),
            (f"{ifname}/disable_ipv6", "0"),
            (f"{ifname}/keep_addr_on_down", "1"),
            (f"{ifname}/accept_ra", "0"),
        ):
            sysctl.write(f"ipv6/conf/{key}", value)
    if settings.pod_prefix_is_host:
        _refuse_redirects(ifname)


def _refuse_redirects(ifname: str) -> None:
    """Keep the pod from learning the direct way to another pod, which the node's redirects would teach it.

    The kernel accepts a redirect in IPv4 if either setting allows it on a host, and reads the interface's alone in IPv6.
    """
    for family in ("ipv4", "ipv6"):
        for name in ("all", ifname):
            sysctl.write_if_there(f"{family}/conf/{name}/accept_redirects", "0")


def _apply(connection: Connection, index: int, ifname: str, settings: Settings, plan: Plan) -> None:
    """Add addresses before the link is up: its coming up then announces them (arp_notify)."""
    at_once = not settings.enabledad
    messages = [address.add(index, packed, prefix, broadcast=plans.broadcast(packed, prefix), nodad=at_once) for packed, prefix in plan.pod]
    messages.append(link.set_up(index, ifname))
    for planned in plan.pod_routes:
        planned.index = index
        messages.append(route.add(planned))
    connection.perform(*messages)
