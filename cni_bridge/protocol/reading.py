"""Results and their parts as others wrote them: from the form of every version of the specification to the 1.1.0 form.

Owns what is refused, with the key; apart from `results` because most requests only write one.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.protocol import config as fields
from cni_bridge.protocol import versions
from cni_bridge.protocol.dns import read_dns
from cni_bridge.protocol.errors import DECODING_FAILURE, INCOMPATIBLE_VERSION, CniError
from cni_bridge.protocol.results import SINGLE_ADDRESS, empty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_bridge.protocol.json_codec import Json
    from cni_bridge.protocol.results import Interface, Ip, Result, Route

_INTERFACE_TEXTS = ("mac", "sandbox", "socketPath", "pciID")
_ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")


def from_version(said: Mapping[str, Json], default_version: str) -> Result:
    """Read a result of any supported version; one that does not say its version has the given one.

    Raises CniError: 1 for a version that is not supported, 6 for a wrong type or an address that is none.
    """
    version = fields.text(said, "cniVersion") or default_version
    if version not in versions.SUPPORTED:
        raise CniError(INCOMPATIBLE_VERSION, f'a result of cniVersion "{version}" cannot be read')
    result = _from_single_addresses(said) if version in SINGLE_ADDRESS else _from_lists(said)
    dns = read_dns(said)
    if dns:
        result["dns"] = dns
    return result


def read_route(members: Mapping[str, Json], where: str) -> Route:
    """Read one route of a result or a configuration. Raises CniError (6) with the key."""
    route: Route = {"dst": _cidr(members, "dst", where)}
    if gateway := _address(members, "gw", where):
        route["gw"] = gateway
    for key in _ROUTE_NUMBERS:
        if fields.field(members, key) is not None:
            route[key] = fields.integer(members, key, where)  # type: ignore[literal-required]  # each of these keys is a number of Route
    return route


def _from_lists(said: Mapping[str, Json]) -> Result:
    return {
        "interfaces": [_read_interface(one, f"interfaces[{index}].") for index, one in enumerate(fields.objects(said, "interfaces"))],
        "ips": [_read_ip(one, f"ips[{index}].", "address") for index, one in enumerate(fields.objects(said, "ips"))],
        "routes": [read_route(one, f"routes[{index}].") for index, one in enumerate(fields.objects(said, "routes"))],
    }


def _from_single_addresses(said: Mapping[str, Json]) -> Result:
    result = empty()
    for key in ("ip4", "ip6"):
        one = fields.section(said, key)
        if one:
            result["ips"].append(_read_ip(one, f"{key}.", "ip"))
            routes = enumerate(fields.objects(one, "routes", f"{key}."))
            result["routes"] += [read_route(route, f"{key}.routes[{index}].") for index, route in routes]
    return result


def _read_interface(members: Mapping[str, Json], where: str) -> Interface:
    interface: Interface = {"name": fields.text(members, "name", where)}
    for key in _INTERFACE_TEXTS:
        if value := fields.text(members, key, where):
            interface[key] = value  # type: ignore[literal-required]  # each of these keys is a text of Interface
    if mtu := fields.integer(members, "mtu", where):
        interface["mtu"] = mtu
    return interface


def _read_ip(members: Mapping[str, Json], where: str, key: str) -> Ip:
    ip: Ip = {"address": _cidr(members, key, where)}
    if fields.field(members, "interface") is not None:
        ip["interface"] = fields.integer(members, "interface", where)
    if gateway := _address(members, "gateway", where):
        ip["gateway"] = gateway
    return ip


def _cidr(members: Mapping[str, Json], key: str, where: str) -> str:
    value = fields.text(members, key, where)
    try:
        return addresses.cidr_text(*addresses.parse_cidr(value))
    except addresses.AddressError as reason:
        raise CniError(DECODING_FAILURE, f'"{where}{key}": {reason}') from None


def _address(members: Mapping[str, Json], key: str, where: str) -> str:
    value = fields.text(members, key, where)
    try:
        return addresses.text(addresses.parse(value)) if value else ""
    except addresses.AddressError as reason:
        raise CniError(DECODING_FAILURE, f'"{where}{key}": {reason}') from None
