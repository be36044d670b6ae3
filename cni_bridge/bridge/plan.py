"""What is to be configured for an attachment, decided from the addresses that IPAM gave: gateways, addresses, routes.

Pure: values in, values out, nothing is read or changed. The result's own lists are completed in place, as the
specification wants them reported.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.netlink.route import LINK_SCOPE, MAIN, UNIVERSE, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.config import Settings
    from cni_bridge.protocol import results
    from cni_bridge.protocol.results import Result

    Network = tuple[bytes, int]

POD_INTERFACE = 2  # place among the result's interfaces, behind bridge and host veth
_BITS = {4: 32, 16: 128}
_SHORTEST_WITHOUT_BROADCAST = 31  # RFC 3021


class Plan:
    """The configuration of one attachment; networks are (address, prefix length), host bits kept.

    pod: the pod's addresses. subnets: the same as IPAM gave them. gateways: the bridge's. pod_routes: of the pod's
    main or other tables; their interface index is filled in later.
    """

    __slots__ = ("gateways", "pod", "pod_routes", "subnets")

    def __init__(self, settings: Settings, result: Result) -> None:
        self.subnets = [addresses.parse_cidr(ip["address"]) for ip in result["ips"]]
        self.gateways: list[Network] = []
        self.pod: list[Network] = []
        for ip, subnet in zip(result["ips"], self.subnets, strict=True):
            self._place(settings, ip, subnet)
        if settings.is_default_gateway:
            _complete_default_routes(result)
        if settings.pod_prefix_is_host:
            result["routes"][:0] = _gateway_routes(result)
        self.pod_routes = _routes(result)

    def _place(self, settings: Settings, ip: results.Ip, subnet: Network) -> None:
        address, prefix = subnet
        ip["interface"] = POD_INTERFACE
        if settings.is_gateway and "gateway" not in ip:
            ip["gateway"] = addresses.text(addresses.following(addresses.first_of(address, prefix)))
        if settings.pod_prefix_is_host:
            prefix = _BITS[len(address)]
            ip["address"] = addresses.cidr_text(address, prefix)
        self.pod.append((address, prefix))
        gateway = (addresses.parse(ip["gateway"]), prefix) if settings.is_gateway else None
        if gateway and gateway not in self.gateways:
            self.gateways.append(gateway)

    @property
    def has_ipv6(self) -> bool:
        """Tell whether the pod gets an IPv6 address."""
        return any(len(address) == 16 for address, _ in self.pod)  # noqa: PLR2004 - the bytes of an IPv6 address


def broadcast(address: bytes, prefix: int) -> bytes:
    """Give an IPv4 network's broadcast address; empty where there is none."""
    if len(address) != 4 or prefix >= _SHORTEST_WITHOUT_BROADCAST:  # noqa: PLR2004 - the bytes of an IPv4 address
        return b""
    return addresses.last_of(address, prefix)


def is_in_the_way(there: Network, wanted: Network) -> bool:
    """Tell whether an address of the gateway's interface keeps another from being added.

    In IPv4 any other one does, in IPv6 one whose network overlaps: as in the reference plugin. The same address with
    another prefix length does not when a host's prefix is wanted.
    """
    if there[0] == wanted[0] and wanted[1] == _BITS[len(wanted[0])]:
        return False
    if len(there[0]) == 4:  # noqa: PLR2004 - the bytes of an IPv4 address
        return True
    return addresses.is_in(there[0], *wanted) or addresses.is_in(wanted[0], *there)


def _default(gateway: str) -> str:
    return "::/0" if ":" in gateway else "0.0.0.0/0"


def first_gateways(result: Result) -> dict[bool, str]:
    """Give the first gateway of each family, by whether it is IPv6."""
    found: dict[bool, str] = {}
    for ip in result["ips"]:
        if "gateway" in ip:
            found.setdefault(":" in ip["gateway"], ip["gateway"])
    return found


def _complete_default_routes(result: Result) -> None:
    """Add each family's default route unless IPAM gave one; one of IPAM's without gateway gets it instead of a twin.

    The reference plugin adds the twin, and fails with "file exists".
    """
    for gateway in first_gateways(result).values():
        dst = _default(gateway)
        same = [route for route in result["routes"] if route["dst"] == dst and route.get("table", MAIN) == MAIN]
        for route in same:
            if "gw" not in route and route.get("scope", UNIVERSE) == UNIVERSE:
                route["gw"] = gateway
        if not any("gw" in route for route in same):
            result["routes"].append({"dst": dst, "gw": gateway})


def _gateway_routes(result: Result) -> list[results.Route]:
    """Give the routes by which a pod with a host's prefix reaches its gateways directly."""
    gateways = dict.fromkeys(ip["gateway"] for ip in result["ips"] if "gateway" in ip)
    return [{"dst": f"{gateway}/{128 if ':' in gateway else 32}", "scope": LINK_SCOPE} for gateway in gateways]


def _routes(result: Result) -> list[Route]:
    gateways = first_gateways(result)
    return [pod_route(route, gateways) for route in result["routes"]]


def pod_route(said: results.Route, gateways: dict[bool, str]) -> Route:
    """Make a route of a result's: without gw the family's first gateway is meant, unless its scope is narrower than that."""
    dst, prefix = addresses.parse_cidr(said["dst"])
    scope = said.get("scope", UNIVERSE)
    gateway = said.get("gw") or (gateways.get(":" in said["dst"], "") if scope < LINK_SCOPE else "")
    if gateway and (addresses.parse(gateway), _BITS[len(dst)]) == (dst, prefix):
        gateway, scope = "", LINK_SCOPE  # the way to the gateway itself, in a result of a version that knows no scope
    route = Route(dst, prefix, 0, gateway=addresses.parse(gateway) if gateway else b"", scope=scope)
    route.table = said.get("table", MAIN)
    route.priority = said.get("priority", 0)
    route.mtu = said.get("mtu", 0)
    route.advmss = said.get("advmss", 0)
    return route
