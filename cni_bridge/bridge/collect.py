"""GC: what belongs to none of the runtime's valid attachments removed: links, rules, routes.

Owns what counts as this network's: aliases, comments and names that say so, nothing else. Another plugin's veths, which do
not say whose they are, are left alone. Every part runs, whatever the others raise.
"""

from __future__ import annotations

from cni_bridge.bridge import pair
from cni_bridge.bridge.config import Settings
from cni_bridge.bridge.failures import of_steps
from cni_bridge.bridge.interfaces import find
from cni_bridge.bridge.ipam import Ipam
from cni_bridge.bridge.names import Attachment, network_alias
from cni_bridge.netlink import link
from cni_bridge.netlink.connection import Connection
from cni_bridge.rollback import Rollback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.skeleton import Request


def run(request: Request) -> None:
    """Do what `verbs.gc` promises."""
    settings = Settings(request)
    steps = Rollback()
    with Connection() as connection:
        Collecting(request, settings, ipam=Ipam(request, settings.ipam), connection=connection).prepare(steps)
        failures = steps.run()
    if failures:
        raise of_steps(failures, "GC")


class Collecting:
    """One GC while it runs; its steps are added to a rollback, which runs the last one first."""

    __slots__ = ("_connection", "_ipam", "_request", "_settings", "_valid")

    def __init__(self, request: Request, settings: Settings, *, ipam: Ipam, connection: Connection) -> None:
        self._request = request
        self._settings = settings
        self._ipam = ipam
        self._connection = connection
        self._valid = [Attachment(settings.network, container_id, ifname) for container_id, ifname in request.valid_attachments]

    def prepare(self, steps: Rollback) -> None:
        """Add what is to be done, the last thing first."""
        steps.add("IPAM GC", lambda: self._ipam.run("GC"))
        if self._settings.pod_prefix_is_host:
            steps.add("host routes", self._collect_routes)
        if self._settings.ip_masq:
            steps.add("masquerading", self._collect_masquerading)
        steps.add("MAC checks", self._collect_mac_checks)
        steps.add("links", self._collect_links)

    def _collect_links(self) -> None:
        """Delete host ends by their aliases; one without is a died ADD's, and of this network if it is its bridge's port."""
        keep = {attachment.alias for attachment in self._valid}
        mine = network_alias(self._settings.network)
        bridge = find(self._connection, self._settings.bridge)
        for payload in self._connection.dump(link.dump()):
            found = link.Link(payload)
            is_nameless = bridge is not None and found.master == bridge.index and found.group == pair.GROUP and not found.alias
            if found.kind == "veth" and (is_nameless or found.alias.startswith(mine)) and found.alias not in keep:
                self._connection.perform(link.delete(found.name))

    def _collect_mac_checks(self) -> None:
        """Remove the chains whose veth is gone, of whatever network it was."""
        from cni_bridge.bridge import mac_spoof  # noqa: PLC0415 - few networks ask for it

        mac_spoof.release([name for name in mac_spoof.chains() if find(self._connection, name) is None])

    def _collect_masquerading(self) -> None:
        from cni_bridge.bridge import masquerade, masquerade_compat  # noqa: PLC0415 - as above

        masquerade_compat.remove_all_but(self._settings.network, {masquerade_compat.instance(one) for one in self._valid})
        if not self._valid:
            masquerade.remove(self._settings.network)

    def _collect_routes(self) -> None:
        """Remove host routes to addresses of this network's ranges that no valid attachment holds."""
        from cni_bridge.bridge import host_leases, host_routes  # noqa: PLC0415 - as above

        holder = find(self._connection, self._settings.gateway_interface)
        if holder is not None:
            there = host_routes.over(self._connection, holder.index)
            stale = host_leases.stale_ones(self._request, self._settings.ipam, there)
            host_routes.remove(self._connection, stale, holder.index)
