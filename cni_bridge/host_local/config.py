"""The configuration's `ipam` section as values: where the store is, the range sets, what is requested.

Owns keys, defaults and what is refused (code 6: not of the right kind, 7: a wrong value, 4: CNI_ARGS); must not touch
files. Every message names the key and the value. Range sets come in the reference implementation's order, for a set's
index names its file in the store: `runtimeConfig.ipRanges`, then `subnet` directly under `ipam`, then `ranges`.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.host_local.place import ipam_section
from cni_bridge.host_local.ranges import Range, shown
from cni_bridge.protocol import config as fields
from cni_bridge.protocol import environment, versions
from cni_bridge.protocol.errors import DECODING_FAILURE, INVALID_CONFIG, INVALID_ENVIRONMENT, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_bridge.host_local.ranges import RangeSet
    from cni_bridge.protocol.config import Config
    from cni_bridge.protocol.json_codec import Json
    from cni_bridge.protocol.results import Route

_SPARE_BITS = 2  # a subnet has at least its own address, the gateway, one to hand out and the broadcast address
_FIRST_WITH_MANY = "0.3.0"  # the first version whose results hold more than one address per family


class Wish:
    """What one ADD asks for: `pod` names the pod's interface if its addresses are remembered, else it is empty."""

    __slots__ = ("pod", "requested")

    def __init__(self, config: Config, args: str, ifname: str) -> None:
        is_sticky = fields.flag(ipam_section(config), "stickyAddresses", "ipam.")
        known = ("IP", "K8S_POD_NAMESPACE", "K8S_POD_NAME") if is_sticky else ("IP",)
        pairs = environment.parse_args(args, known)
        self.requested = _requested(config, pairs)
        named = is_sticky and pairs.get("K8S_POD_NAME")
        self.pod = f"{pairs.get('K8S_POD_NAMESPACE', '')}/{named}/{ifname}" if named else ""
        if any(character.isspace() for character in self.pod):
            raise CniError(INVALID_ENVIRONMENT, f'CNI_ARGS: "{self.pod}" cannot be the namespace and name of a pod')


def read_range_sets(config: Config, version: str) -> tuple[RangeSet, ...]:
    """Give the range sets in the order of their indexes. Raises CniError (6 or 7)."""
    found = [_range_set(ranges, where, index) for index, (where, ranges) in enumerate(_said_sets(config))]
    if not found:
        raise CniError(INVALID_CONFIG, 'no IP ranges specified: "ipam" has neither "ranges" nor "subnet"')
    _refuse_many(found, version)
    for index, range_set in enumerate(found):
        for other in range(index + 1, len(found)):
            if any(one.overlaps(two) for one in range_set for two in found[other]):
                raise CniError(INVALID_CONFIG, f"range set {index} overlaps with {other}: {shown(range_set)} and {shown(found[other])}")
    return tuple(found)


def read_routes(config: Config) -> list[Route]:
    """Give the routes for the result. Raises CniError (6)."""
    routes = fields.objects(ipam_section(config), "routes", "ipam.")
    if not routes:
        return []
    from cni_bridge.protocol.reading import read_route  # noqa: PLC0415 - bridge makes the routes that most networks need: every import costs

    return [read_route(one, f"ipam.routes[{index}].") for index, one in enumerate(routes)]


def resolv_conf_of(config: Config) -> str:
    """Give the path of the file whose content becomes the result's dns; empty when there is none."""
    return fields.text(ipam_section(config), "resolvConf", "ipam.")


def _said_sets(config: Config) -> list[tuple[str, list[Config]]]:
    """Give each set's key and its ranges as they were written."""
    ipam = ipam_section(config)
    sets = _sets_under(fields.section(config, "runtimeConfig"), "ipRanges", "runtimeConfig.")
    if fields.field(ipam, "subnet") is not None:
        sets.append(("ipam", [ipam]))
    return sets + _sets_under(ipam, "ranges", "ipam.")


def _sets_under(members: Mapping[str, Json], key: str, where: str) -> list[tuple[str, list[Config]]]:
    sets = []
    for index, written in enumerate(fields.sequence(members, key, where)):
        place = f"{where}{key}[{index}]"
        sets.append((place, fields.objects({place: written}, place)))
    return sets


def _range_set(said: list[Config], where: str, index: int) -> RangeSet:
    try:
        ranges = tuple(_range(one, "ipam." if where == "ipam" else f"{where}[{position}].") for position, one in enumerate(said))
        _refuse_mixture(ranges, where)
    except CniError as error:
        raise CniError(error.code, f"invalid range set {index}: {error.msg}", error.details) from None
    return ranges


def _range(said: Config, where: str) -> Range:
    """Read one range and fill in what is left out: all but the first and, for IPv4, the last address of the subnet."""
    subnet, prefix = _subnet(said, where)
    lowest, highest = addresses.first_of(subnet, prefix), addresses.last_of(subnet, prefix)
    start = _address(said, "rangeStart", where) or addresses.following(lowest)
    end = _address(said, "rangeEnd", where) or (highest if ":" in addresses.text(subnet) else addresses.following(highest, -1))
    gateway = _address(said, "gateway", where) or addresses.following(lowest)
    for key, address in (("rangeStart", start), ("rangeEnd", end)):
        if not addresses.is_in(address, subnet, prefix):
            raise _wrong(where + key, addresses.text(address), f"it is not in network {addresses.cidr_text(subnet, prefix)}")
    if end < start:
        raise _wrong(f"{where}rangeEnd", addresses.text(end), f"it is before rangeStart {addresses.text(start)}")
    if len(gateway) != len(subnet):
        raise _wrong(f"{where}gateway", addresses.text(gateway), f"it is not of the family of {addresses.cidr_text(subnet, prefix)}")
    return Range(subnet, prefix, start, end, gateway)


def _subnet(said: Config, where: str) -> tuple[bytes, int]:
    written = fields.text(said, "subnet", where)
    if not written:
        raise CniError(INVALID_CONFIG, f'"{where}subnet" is missing')
    try:
        subnet, prefix = addresses.parse_cidr(written)
    except addresses.AddressError as reason:
        raise CniError(DECODING_FAILURE, f'"{where}subnet": {reason}') from None
    if prefix > addresses.bits(subnet) - _SPARE_BITS:
        smallest = f"/{addresses.bits(subnet) - _SPARE_BITS} is the smallest"
        raise _wrong(f"{where}subnet", written, f"the network is too small to allocate from, {smallest}")
    network = addresses.first_of(subnet, prefix)
    if network != subnet:
        raise _wrong(f"{where}subnet", written, f"it has host bits set, the network's address is {addresses.text(network)}")
    return subnet, prefix


def _address(said: Config, key: str, where: str) -> bytes | None:
    written = fields.text(said, key, where)
    return _parsed(written, where + key) if written else None


def _parsed(written: str, key: str, code: int = DECODING_FAILURE) -> bytes:
    try:
        return addresses.parse(written)
    except addresses.AddressError as reason:
        raise CniError(code, f'"{key}": {reason}') from None


def _refuse_mixture(ranges: RangeSet, where: str) -> None:
    if not ranges:
        raise CniError(INVALID_CONFIG, f'"{where}": empty range set')
    if len({len(one.start) for one in ranges}) > 1:
        raise CniError(INVALID_CONFIG, f'"{where}": mixed address families: {shown(ranges)}')
    for index, one in enumerate(ranges):
        for other in ranges[index + 1 :]:
            if one.overlaps(other):
                raise CniError(INVALID_CONFIG, f'"{where}": subnets {one} and {other} overlap')


def _refuse_many(range_sets: list[RangeSet], version: str) -> None:
    """Refuse what a result of an early version cannot hold."""
    families = [len(one[0].start) for one in range_sets]
    if max(families.count(family) for family in set(families)) > 1 and not versions.is_at_least(version, _FIRST_WITH_MANY):
        right = f"cniVersion {_FIRST_WITH_MANY} does"
        raise CniError(INVALID_CONFIG, f"CNI version {version} does not support more than 1 address per family: {right}")


def _requested(config: Config, pairs: Mapping[str, str]) -> tuple[bytes, ...]:
    """Give the addresses of all three channels, each once: they add up. A prefix length is let pass and ignored."""
    found = [_requested_address(pairs["IP"], "CNI_ARGS: IP", INVALID_ENVIRONMENT)] if pairs.get("IP") else []
    in_args = fields.section(fields.section(config, "args"), "cni", "args.")
    for members, where in ((in_args, "args.cni."), (fields.section(config, "runtimeConfig"), "runtimeConfig.")):
        for index, written in enumerate(fields.texts(members, "ips", where)):
            found.append(_requested_address(written, f"{where}ips[{index}]", DECODING_FAILURE))
    return tuple(dict.fromkeys(found))


def _requested_address(written: str, key: str, code: int) -> bytes:
    if "/" not in written:
        return _parsed(written, key, code)
    try:
        return addresses.parse_cidr(written)[0]
    except addresses.AddressError as reason:
        raise CniError(code, f'"{key}": {reason}') from None


def _wrong(key: str, value: str, reason: str) -> CniError:
    return CniError(INVALID_CONFIG, f'"{key}" is "{value}": {reason}')
