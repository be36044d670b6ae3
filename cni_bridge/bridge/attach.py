"""ADD: one attachment, made step by step, and undone in reverse order when a step fails.

Owns the order. Addresses come first when our own host-local gives them, so that an exhausted pool leaves no trace; another
IPAM plugin runs when the container's interface is there, as some (dhcp) need it. What others see, a way to the pod, comes last.
"""

from __future__ import annotations

from cni_bridge import sysctl
from cni_bridge.bridge import host_bridge, pair, pod
from cni_bridge.bridge.config import Settings
from cni_bridge.bridge.interfaces import find, random_mac
from cni_bridge.bridge.ipam import Ipam
from cni_bridge.bridge.names import Attachment
from cni_bridge.bridge.plan import Plan
from cni_bridge.fast import posix
from cni_bridge.namespace import NotANamespace, open_path
from cni_bridge.netlink import link
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.protocol import results
from cni_bridge.protocol.errors import INVALID_NETNS, CniError
from cni_bridge.rollback import Rollback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.netlink.link import Link
    from cni_bridge.protocol.results import Interface, Result
    from cni_bridge.protocol.skeleton import Request


def run(request: Request) -> Result:
    """Do what `verbs.add` promises."""
    settings = Settings(request)
    ipam = Ipam(request, settings.ipam)
    netns = _open(request.netns)
    try:
        with Connection() as connection:
            return Attaching(request, settings, ipam=ipam, netns=netns, connection=connection).run()
    except (CniError, NetlinkError, OSError) as error:
        from cni_bridge.bridge.failures import told  # noqa: PLC0415 - every import costs, and this one is for failures

        raise told(error) from None
    finally:
        posix.close(netns)


def _open(path: str) -> int:
    try:
        return open_path(path)
    except NotANamespace as error:
        raise CniError(INVALID_NETNS, str(error)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CniError(INVALID_NETNS, f'failed to open netns "{path}": {reason}') from None


class Attaching:
    """One ADD while it runs. netns: the container's namespace, opened by the caller; connection: the host's."""

    __slots__ = ("_attachment", "_connection", "_ipam", "_netns", "_request", "_rollback", "_settings")

    def __init__(self, request: Request, settings: Settings, *, ipam: Ipam, netns: int, connection: Connection) -> None:
        self._request = request
        self._settings = settings
        self._ipam = ipam
        self._netns = netns
        self._connection = connection
        self._attachment = Attachment(request.name, request.container_id, request.ifname)
        self._rollback = Rollback()

    def run(self) -> Result:
        """Attach and give the result. Raises CniError, NetlinkError or OSError: then nothing is left but what pods share.

        What could not be undone is noted on the exception.
        """
        try:
            return self._steps()
        except BaseException as error:
            for failure in self._rollback.run():
                error.add_note(f"left behind: {failure}")
            raise

    def _steps(self) -> Result:
        early = self._addresses() if self._ipam.is_in_process else None
        bridge = host_bridge.ensure(self._connection, self._settings)
        mac = self._settings.mac or random_mac()
        port = self._plug_in(bridge, mac)
        result = early or self._addresses()
        plan = Plan(self._settings, result) if self._ipam else None
        holder = self._gateway_interface(bridge, plan)
        if plan:
            self._configure_host(holder, plan)
        if not self._settings.disable_container_interface:
            pod.configure(self._netns, port.peer, self._request.ifname, self._settings, plan)
        if plan and self._settings.pod_prefix_is_host:
            self._lead_to_pod(holder, plan)
        if not self._settings.disable_container_interface:
            pair.wait_until_up(self._connection, port)
        container: Interface = {"name": self._request.ifname, "mac": link.mac_text(mac), "mtu": port.mtu, "sandbox": self._request.netns}
        legs = [] if holder is bridge else [_described(holder)]
        result["interfaces"] = [_described(find(self._connection, bridge.name) or bridge), _described(port), container, *legs]
        if self._settings.dns:
            result["dns"] = self._settings.dns
        return result

    def _addresses(self) -> Result:
        return self._ipam.add(self._rollback) if self._ipam else results.empty()

    def _plug_in(self, bridge: Link, mac: bytes) -> Link:
        """Make the pair and its port's settings; all of it but the MAC check goes with the host's end."""
        end = link.VethEnd(self._request.ifname, mac, netns=self._netns)
        port = pair.make(self._connection, self._attachment, end, bridge=bridge.index, mtu=self._settings.mtu)
        self._rollback.add(f"delete {port.name}", lambda: self._connection.perform(link.delete(port.name)))
        sysctl.write_if_there(f"ipv6/conf/{port.name}/accept_ra", "0")
        if self._settings.hairpin or self._settings.port_isolation:
            from cni_bridge.netlink import bridge_port  # noqa: PLC0415 - every import costs, and few networks ask for it

            isolated = True if self._settings.port_isolation else None
            self._connection.perform(bridge_port.set_port(port.index, hairpin=self._settings.hairpin, isolated=isolated))
        if self._settings.filters_vlans:
            from cni_bridge.bridge import vlan  # noqa: PLC0415 - as above

            vlan.join(self._connection, port, self._settings)
        if self._settings.mac_spoof_check:
            from cni_bridge.bridge import mac_spoof  # noqa: PLC0415 - as above

            self._rollback.add("the MAC check", lambda: mac_spoof.release([port.name]))
            mac_spoof.guard(self._attachment, port.name, mac)
        return port

    def _gateway_interface(self, bridge: Link, plan: Plan | None) -> Link:
        if plan and plan.gateways and self._settings.vlan:
            from cni_bridge.bridge import vlan  # noqa: PLC0415 - as above

            return vlan.ensure_leg(self._connection, bridge, self._settings)
        return bridge

    def _configure_host(self, holder: Link, plan: Plan) -> None:
        host_bridge.ensure_gateways(self._connection, holder, plan.gateways, force=self._settings.force_address)
        if self._settings.ip_masq and not self._settings.ip_masq_backend:
            from cni_bridge.bridge import masquerade  # noqa: PLC0415 - every import costs, and in a cluster the node masquerades

            masquerade.ensure(self._attachment.network, plan.subnets)
        elif self._settings.ip_masq:
            self._masquerade_each(plan)

    def _masquerade_each(self, plan: Plan) -> None:
        from cni_bridge.bridge import masquerade_compat as compat  # noqa: PLC0415 - as above

        self._rollback.add("masquerading", lambda: compat.remove(self._attachment))
        add = compat.add if self._settings.ip_masq_backend == "nftables" else compat.add_iptables
        add(self._attachment, plan.subnets)

    def _lead_to_pod(self, holder: Link, plan: Plan) -> None:
        from cni_bridge.bridge import host_routes  # noqa: PLC0415 - as above

        pods = [packed for packed, _ in plan.pod]
        self._rollback.add("host routes", lambda: host_routes.remove(self._connection, pods, holder.index))
        host_routes.add(self._connection, pods, holder.index)


def _described(found: Link) -> Interface:
    return {"name": found.name, "mac": found.mac, "mtu": found.mtu}
