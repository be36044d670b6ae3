"""DEL: everything of an attachment removed, as far as it is there, with a namespace or without.

Owns the order in which traces are looked for: under the name that the attachment gives its veth, and where there is nothing
of that name, in the container's namespace, in the previous result and in the lease (`traces`, `host_leases`). Every part runs,
whatever the others raise, but the last: the addresses are released when nothing uses them any more, so that no other pod
gets them too soon and the next DEL still finds what leads to them.
"""

from __future__ import annotations

from cni_bridge.bridge.config import Settings
from cni_bridge.bridge.host_ends import host_ends
from cni_bridge.bridge.interfaces import find
from cni_bridge.bridge.ipam import Ipam
from cni_bridge.bridge.names import Attachment
from cni_bridge.netlink import link
from cni_bridge.netlink.connection import Connection
from cni_bridge.rollback import Rollback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_bridge.protocol.skeleton import Request


def run(request: Request) -> None:
    """Do what `verbs.del_` promises."""
    settings = Settings(request)
    steps = Rollback()
    with Connection() as connection:
        Detaching(request, settings, ipam=Ipam(request, settings.ipam), connection=connection).prepare(steps)
        failures = steps.run()
    if failures:
        from cni_bridge.bridge.failures import of_steps  # noqa: PLC0415 - every import costs, and this one is for failures

        raise of_steps(failures, "DEL")


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
        ends = [end.name for end in host_ends(self._connection, self._attachment)]
        if self._settings.mac_spoof_check:
            from cni_bridge.bridge import mac_spoof  # noqa: PLC0415 - as above

            mac_spoof.release(ends or [self._attachment.veth()])
        for name in ends:
            self._connection.perform(link.delete(name))
        if not ends:
            from cni_bridge.bridge import traces  # noqa: PLC0415 - as above

            traces.remove_foreign_link(self._connection, self._request)

    def _addresses_inside(self) -> list[bytes]:
        from cni_bridge.bridge import traces  # noqa: PLC0415 - as above

        return traces.addresses_inside(self._request)

    def _remove_routes(self, pods: set[bytes]) -> None:
        """Remove the host's routes to every address that the attachment has or had."""
        from cni_bridge.bridge import host_leases, host_routes, traces  # noqa: PLC0415 - as above

        holder = find(self._connection, self._settings.gateway_interface)
        if holder is None:
            return
        pods.update(traces.reported_addresses(self._request))
        pods.update(host_leases.held(self._request, self._settings.ipam))
        host_routes.remove(self._connection, sorted(pods), holder.index)
