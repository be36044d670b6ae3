"""CHECK: what the previous result reports, and what it does not, compared with the kernel.

Owns the comparison; changes nothing. Later plugins of a chain may have changed things (tuning the MAC) or added to them: their
word, the result, is what counts. The first difference is the error.
"""

from __future__ import annotations

from cni_bridge import addresses, sysctl
from cni_bridge.bridge import vlan
from cni_bridge.bridge.config import Settings
from cni_bridge.bridge.failures import told
from cni_bridge.bridge.host_ends import host_ends
from cni_bridge.bridge.interfaces import find
from cni_bridge.bridge.ipam import Ipam
from cni_bridge.bridge.names import Attachment
from cni_bridge.bridge.plan import first_gateways, pod_route
from cni_bridge.fast import posix
from cni_bridge.namespace import Inside, NotANamespace, open_path
from cni_bridge.netlink import address, bridge_port, link, route
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.protocol.errors import INVALID_CONFIG, INVALID_NETNS, NOT_AS_REPORTED, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.netlink.link import Link
    from cni_bridge.netlink.route import Route
    from cni_bridge.protocol.results import Interface
    from cni_bridge.protocol.skeleton import Request


def _require(condition: object, message: str, details: str = "") -> None:
    if not condition:
        raise CniError(NOT_AS_REPORTED, message, details)


def run(request: Request) -> None:
    """Do what `verbs.check` promises."""
    settings = Settings(request)
    try:
        with Connection() as connection:
            Ipam(request, settings.ipam).run("CHECK")
            Checking(request, settings, connection).run()
    except NotANamespace as error:
        raise CniError(INVALID_NETNS, str(error)) from None
    except (NetlinkError, OSError) as error:
        raise told(error) from None


class Checking:
    """One CHECK while it runs. connection: the host's."""

    __slots__ = ("_attachment", "_connection", "_request", "_result", "_settings")

    def __init__(self, request: Request, settings: Settings, connection: Connection) -> None:
        result = request.prev_result
        if result is None:
            raise CniError(INVALID_CONFIG, "Required prevResult missing", "CHECK compares with it")
        self._request = request
        self._settings = settings
        self._connection = connection
        self._result = result
        self._attachment = Attachment(request.name, request.container_id, request.ifname)

    def run(self) -> None:
        """Compare everything. Raises CniError (104) with the first difference, 7 without a result, OSError, NetlinkError."""
        container = self._container()
        bridge = self._check_bridge()
        port = self._check_port(bridge)
        self._check_inside(container, port)
        if not self._settings.ipam:
            return
        if self._settings.is_gateway:
            self._check_gateway(bridge)
        if self._settings.ip_masq:
            self._check_masquerading()

    def _container(self) -> Interface:
        for one in self._result["interfaces"]:
            if one["name"] == self._request.ifname and one.get("sandbox"):
                sandbox = one.get("sandbox", "")
                _require(sandbox == self._request.netns, f"the result's sandbox of {one['name']} is not CNI_NETNS", sandbox)
                return one
        raise CniError(NOT_AS_REPORTED, f"the result has no interface {self._request.ifname} in a container")

    def _reported_mac(self, name: str) -> str:
        interfaces = self._result["interfaces"]
        return next((one.get("mac", "") for one in interfaces if one["name"] == name and not one.get("sandbox")), "")

    def _check_bridge(self) -> Link:
        name = self._settings.bridge
        bridge = find(self._connection, name)
        if bridge is None or bridge.kind != "bridge":
            raise CniError(NOT_AS_REPORTED, f'bridge "{name}" is missing' if bridge is None else f'"{name}" is not a bridge')
        _require(bridge.is_up, f'bridge "{name}" is down')
        reported = self._reported_mac(name)
        _require(reported in {"", bridge.mac}, f'bridge "{name}" has the MAC address {bridge.mac}', f"the result says {reported}")
        _require(bridge.is_promiscuous or not self._settings.promiscuous, f'bridge "{name}" is not promiscuous')
        _require(bridge.filters_vlans or not self._settings.filters_vlans, f'bridge "{name}" does not filter VLANs')
        return bridge

    def _check_port(self, bridge: Link) -> Link:
        port = self._port()
        _require(port.master == bridge.index, f'{port.name} is not a port of "{bridge.name}"')
        _require(port.is_up, f"{port.name} is down")
        _require(port.is_hairpin == self._settings.hairpin, f"hairpin mode of {port.name} is {port.is_hairpin}".lower())
        _require(port.is_isolated or not self._settings.port_isolation, f"{port.name} is not isolated")
        wanted = vlan.port_vlans(self._settings)
        there = bridge_port.vlans_of(self._connection.dump(bridge_port.dump_vlans()), port.index) if wanted else []
        members = {number: kept for number, _, kept in there}
        for first, last, flags in wanted:
            is_member = all(members.get(number) == flags for number in range(first, last + 1))
            _require(is_member, f"{port.name} is not in VLAN {first} as it should be")
        if self._settings.mac_spoof_check:
            from cni_bridge.bridge import mac_spoof  # noqa: PLC0415 - few networks ask for it

            _require(mac_spoof.is_guarded(self._attachment, port.name), f"the MAC addresses behind {port.name} are not checked")
        return port

    def _port(self) -> Link:
        """Find the host's end: ours by its name, the reference plugin's by the result."""
        for found in host_ends(self._connection, self._attachment):
            return found
        for one in self._result["interfaces"]:
            found_by_name = find(self._connection, one["name"]) if not one.get("sandbox") else None
            if found_by_name is not None and found_by_name.kind == "veth" and one["name"] != self._settings.gateway_interface:
                return found_by_name
        raise CniError(NOT_AS_REPORTED, f"the host's end of {self._request.ifname} is missing")

    def _check_inside(self, container: Interface, port: Link) -> None:
        netns = open_path(self._request.netns)
        try:
            with Inside(netns), Connection() as inside:
                found = find(inside, self._request.ifname)
                if found is None:
                    raise CniError(NOT_AS_REPORTED, f"interface {self._request.ifname} is missing in the container")
                _require(found.kind == "veth" and found.peer == port.index, f"{found.name} is not the other end of {port.name}")
                _require(container.get("mac", "") in {"", found.mac}, f"{found.name} has the MAC address {found.mac}")
                if not self._settings.disable_container_interface:
                    _require(found.is_up, f"{found.name} is down")
                    _require(port.operstate == link.OPERSTATE_UP, f"bridge port in error state: {link.OPERSTATES[port.operstate]}")
                self._check_addresses(inside, found)
                self._check_routes(inside, found)
                if self._settings.pod_prefix_is_host:
                    _check_redirects(found.name)
        finally:
            posix.close(netns)

    def _check_addresses(self, inside: Connection, found: Link) -> None:
        there = {(one.address, one.prefix): one for one in address.of_interface(inside.dump(address.dump(found.index)), found.index)}
        for ip in self._result["ips"]:
            if self._is_inside(ip.get("interface")):
                one = there.get(addresses.parse_cidr(ip["address"]))
                _require(one is not None, f"address {ip['address']} is missing on {found.name}")
                _require(one is None or not one.flags & address.DADFAILED, f"address {ip['address']} is in use elsewhere")

    def _is_inside(self, index: int | None) -> bool:
        if index is None or not 0 <= index < len(self._result["interfaces"]):
            return True
        return self._result["interfaces"][index]["name"] == self._request.ifname

    def _check_routes(self, inside: Connection, found: Link) -> None:
        gateways = first_gateways(self._result)
        there: dict[int, list[Route]] = {}
        for said in self._result["routes"]:
            wanted = pod_route(said, gateways)
            family = address.family_of(wanted.dst)
            if family not in there:
                there[family] = [route.parse(payload) for payload in inside.dump(route.dump(family))]
            _require(any(_is_same(one, wanted) for one in there[family]), f"route {wanted} is missing in the container", found.name)

    def _check_gateway(self, bridge: Link) -> None:
        holder = bridge if not self._settings.vlan else find(self._connection, self._settings.gateway_interface)
        if holder is None:
            raise CniError(NOT_AS_REPORTED, f"interface {self._settings.gateway_interface} is missing")
        there = {one.address for one in address.of_interface(self._connection.dump(address.dump(holder.index)), holder.index)}
        for gateway in {ip["gateway"] for ip in self._result["ips"] if "gateway" in ip}:
            _require(addresses.parse(gateway) in there, f"gateway {gateway} is missing on {holder.name}")
            key = "ipv6/conf/all/forwarding" if ":" in gateway else "ipv4/ip_forward"
            _require(sysctl.read(key) == "1", f"forwarding is off: net/{key} is 0")
        if self._settings.pod_prefix_is_host:
            from cni_bridge.bridge import host_routes  # noqa: PLC0415 - few networks ask for it

            for packed, _ in self._pods():
                is_led_to = host_routes.leads_to(self._connection, packed, holder.index)
                _require(is_led_to, f"the host has no route to {addresses.text(packed)} over {holder.name}")

    def _pods(self) -> list[tuple[bytes, int]]:
        return [addresses.parse_cidr(ip["address"]) for ip in self._result["ips"] if self._is_inside(ip.get("interface"))]

    def _check_masquerading(self) -> None:
        """Compare with the rules of the back end that the configuration asks for; iptables' own are not read."""
        backend = self._settings.ip_masq_backend
        if backend == "nftables":
            from cni_bridge.bridge import masquerade_compat  # noqa: PLC0415 - few networks ask for it

            _require(masquerade_compat.is_added(self._attachment, len(self._pods())), "masquerading rules are missing")
        elif not backend:
            from cni_bridge.bridge import masquerade  # noqa: PLC0415 - as above

            there = masquerade.masqueraded(self._attachment.network)
            for packed, _ in self._pods():
                _require(any(addresses.is_in(packed, *one) for one in there), f"no rule masquerades {addresses.text(packed)}")


def _check_redirects(ifname: str) -> None:
    for family in ("ipv4", "ipv6"):
        for name in ("all", ifname):
            key = f"{family}/conf/{name}/accept_redirects"
            _require(sysctl.read(key) == "0", f"the container accepts redirects: net/{key} is not 0")


def _is_same(there: Route, wanted: Route) -> bool:
    """Compare a route; of a default route only that there is one, for others may have taken it over."""
    if (there.dst, there.prefix, there.table) != (wanted.dst, wanted.prefix, wanted.table):
        return False
    return wanted.prefix == 0 or not wanted.gateway or there.gateway == wanted.gateway
