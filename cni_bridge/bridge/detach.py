"""DEL: everything of an attachment removed, as far as it is there, with a namespace or without.

Owns where traces are looked for: under the name that the attachment gives its veth, in the container's namespace, in the
previous result, in the lease. Every part runs, whatever the others raise, but the last: the addresses are released when
nothing uses them any more, so that no other pod gets them too soon and the next DEL still finds what leads to them.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.bridge import pair
from cni_bridge.bridge.interfaces import find
from cni_bridge.bridge.names import Attachment
from cni_bridge.fast import posix
from cni_bridge.namespace import Inside, NotANamespace, open_path
from cni_bridge.netlink import address, link
from cni_bridge.netlink.connection import Connection
from cni_bridge.protocol.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_bridge.bridge.config import Settings
    from cni_bridge.bridge.ipam import Ipam
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request
    from cni_bridge.rollback import Rollback


class Detaching:
    """One DEL while it runs; its steps are added to a rollback, which runs the last one first."""

    __slots__ = ("_attachment", "_connection", "_in_use_by", "_ipam", "_request", "_settings")

    def __init__(self, request: Request, settings: Settings, *, ipam: Ipam, connection: Connection) -> None:
        self._request = request
        self._settings = settings
        self._ipam = ipam
        self._connection = connection
        self._attachment = Attachment(request.name, request.container_id, request.ifname)
        self._in_use_by: set[str] = set()

    def prepare(self, steps: Rollback) -> None:
        """Add what is to be done, the last thing first."""
        steps.add("IPAM DEL", self._release)
        if self._settings.ip_masq:
            steps.add("masquerading", self._stop_masquerading)
        if self._settings.pod_prefix_is_host:
            pods: set[bytes] = set()
            self._add_user(steps, "host routes", lambda: self._remove_routes(pods))
            self._add_user(steps, "links", self._remove_links)
            steps.add("the container's addresses", lambda: pods.update(self._addresses_inside()))
        else:
            self._add_user(steps, "links", self._remove_links)

    def _add_user(self, steps: Rollback, what: str, remove: Callable[[], object]) -> None:
        """Add the removal of something that uses the addresses."""

        def step() -> None:
            remove()
            self._in_use_by.discard(what)

        self._in_use_by.add(what)
        steps.add(what, step)

    def _release(self) -> None:
        if not self._in_use_by:
            self._ipam.run("DEL")

    def _stop_masquerading(self) -> None:
        """Remove what a compatible back end or the reference plugin added for this pod; the network's own rule stays."""
        from cni_bridge.bridge import masquerade_compat  # noqa: PLC0415 - every import costs, and many networks do not masquerade

        masquerade_compat.remove(self._attachment)

    def _remove_links(self) -> None:
        """Delete the host's end, and the container's end with it; a pair under other names is looked for inside."""
        ends = [end.name for end in pair.host_ends(self._connection, self._attachment)]
        if self._settings.mac_spoof_check:
            from cni_bridge.bridge import mac_spoof  # noqa: PLC0415 - as above

            mac_spoof.release(ends or [self._attachment.veth()])
        for name in ends:
            self._connection.perform(link.delete(name))
        if not ends:
            self._remove_foreign_link()

    def _remove_foreign_link(self) -> None:
        """Delete what the reference plugin made: the container's end where there is a namespace, else the host's end by the result."""
        netns = _open_if_there(self._request.netns)
        if netns >= 0:
            try:
                with Inside(netns), Connection() as inside:
                    inside.perform(link.delete(self._request.ifname))
            finally:
                posix.close(netns)
            return
        for name in self._reported_host_ends():
            found = find(self._connection, name)
            if found is not None and found.kind == "veth" and not found.alias:
                self._connection.perform(link.delete(name))

    def _reported_host_ends(self) -> list[str]:
        """Give the host's veth of the previous result; the bridge and its legs are others' too."""
        found = self._previous()
        interfaces = found["interfaces"] if found else []
        return [one["name"] for one in interfaces if not one.get("sandbox") and one["name"].startswith("veth")]

    def _previous(self) -> Result | None:
        """Give the previous result; one that cannot be read is no reason to keep anything."""
        try:
            return self._request.prev_result
        except CniError:
            return None

    def _addresses_inside(self) -> list[bytes]:
        netns = _open_if_there(self._request.netns)
        if netns < 0:
            return []
        try:
            with Inside(netns), Connection() as inside:
                found = find(inside, self._request.ifname)
                there = address.of_interface(inside.dump(address.dump(found.index)), found.index) if found else []
        finally:
            posix.close(netns)
        return [one.address for one in there]

    def _remove_routes(self, pods: set[bytes]) -> None:
        """Remove the host's routes to every address that the attachment has or had."""
        from cni_bridge.bridge import host_routes  # noqa: PLC0415 - as above

        holder = find(self._connection, self._settings.gateway_interface)
        if holder is None:
            return
        pods.update(self._reported_addresses())
        pods.update(self._ipam.held())
        host_routes.remove(self._connection, sorted(pods), holder.index)

    def _reported_addresses(self) -> list[bytes]:
        found = self._previous()
        return [addresses.parse_cidr(ip["address"])[0] for ip in found["ips"]] if found else []


def _open_if_there(path: str) -> int:
    """Open a namespace; -1 when there is none any more."""
    if not path:
        return -1
    try:
        return open_path(path)
    except (OSError, ValueError, NotANamespace):
        return -1
