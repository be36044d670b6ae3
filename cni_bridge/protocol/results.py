"""Results: the 1.1.0 form inside, and to the form of every version of the specification; `reading` is the way back.

Owns the shapes (specification, section 5, and those of earlier versions); knows nothing of how a result comes about.
A result inside is a plain dict that always has "interfaces", "ips" and "routes"; addresses are canonical text.
"""

from __future__ import annotations

from cni_bridge.protocol import versions
from cni_bridge.protocol.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    class Interface(TypedDict):
        """One that the plugin made or uses; sandbox is CNI_NETNS for one in the container, absent for the host's."""

        name: str
        mac: NotRequired[str]
        mtu: NotRequired[int]
        sandbox: NotRequired[str]
        socketPath: NotRequired[str]
        pciID: NotRequired[str]

    class Ip(TypedDict):
        """An address with its prefix length; interface is an index into the result's interfaces."""

        interface: NotRequired[int]
        address: str
        gateway: NotRequired[str]

    class Route(TypedDict):
        """A route of the container; without gw the address's gateway is meant."""

        dst: str
        gw: NotRequired[str]
        mtu: NotRequired[int]
        advmss: NotRequired[int]
        priority: NotRequired[int]
        table: NotRequired[int]
        scope: NotRequired[int]

    class Dns(TypedDict, total=False):
        """What a resolver needs; nothing of it is required."""

        nameservers: list[str]
        domain: str
        search: list[str]
        options: list[str]

    class Result(TypedDict):
        """The 1.1.0 form, without cniVersion: that is written at the end."""

        interfaces: list[Interface]
        ips: list[Ip]
        routes: list[Route]
        dns: NotRequired[Dns]


SINGLE_ADDRESS = ("0.1.0", "0.2.0")
_WITH_FAMILY = ("0.3.0", "0.3.1", "0.4.0")
_SINCE_1_1 = {"mtu", "socketPath", "pciID", "advmss", "priority", "table", "scope"}


def empty() -> Result:
    """Give a new result with nothing in it."""
    return {"interfaces": [], "ips": [], "routes": []}


def to_version(result: Result, version: str) -> dict[str, object]:
    """Give the form that the version has, with cniVersion, ready to be encoded; empty lists and no dns are left out.

    Raises CniError (7) when versions up to 0.2.0 cannot express it: they need an address.
    """
    said: dict[str, object] = {"cniVersion": version}
    said.update(_to_single_addresses(result) if version in SINGLE_ADDRESS else _to_lists(result, version))
    if result.get("dns"):
        said["dns"] = result["dns"]
    return said


def is_ipv4(address: str) -> bool:
    """Tell the family of a canonical address, with or without a prefix length."""
    return ":" not in address


def _to_lists(result: Result, version: str) -> dict[str, object]:
    interfaces: list[dict[str, object]] = [{**one} for one in result["interfaces"]]
    ips: list[dict[str, object]] = [{**one} for one in result["ips"]]
    routes: list[dict[str, object]] = [{**one} for one in result["routes"]]
    if version in _WITH_FAMILY:
        ips = [{"version": "4" if is_ipv4(one["address"]) else "6", **one} for one in result["ips"]]
    if version != versions.NEWEST:
        interfaces = [{key: one[key] for key in one if key not in _SINCE_1_1} for one in interfaces]
        routes = [{key: one[key] for key in one if key not in _SINCE_1_1} for one in routes]
    lists = {"interfaces": interfaces, "ips": ips, "routes": routes}
    return {key: items for key, items in lists.items() if items}


def _to_single_addresses(result: Result) -> dict[str, object]:
    said: dict[str, object] = {}
    for key, is_wanted in (("ip4", is_ipv4), ("ip6", lambda address: not is_ipv4(address))):
        first = next((one for one in result["ips"] if is_wanted(one["address"])), None)
        if first is not None:
            routes = [_destination_and_gateway(route) for route in result["routes"] if is_wanted(route["dst"])]
            gateway = {"gateway": first["gateway"]} if "gateway" in first else {}
            said[key] = {"ip": first["address"], **gateway, **({"routes": routes} if routes else {})}
    if not said:
        raise CniError(INVALID_CONFIG, "cannot convert: no valid IP addresses", "cniVersion 0.3.0 is the first that can say so")
    return said


def _destination_and_gateway(route: Route) -> dict[str, str]:
    return {"dst": route["dst"], **({"gw": route["gw"]} if "gw" in route else {})}
