"""Values of the bridge plugin's configuration that need more than a look: VLAN trunks and MAC addresses.

Pure. Apart from `config` because few configurations have them.
"""

from __future__ import annotations

from cni_bridge.bridge.config import HIGHEST_VLAN, wrong
from cni_bridge.protocol import config as fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.config import Config

_MAC_BYTES = 6


def trunk(config: Config) -> tuple[int, ...]:
    """Give the VLAN IDs of "vlanTrunk" in order, each once. Raises CniError (6 or 7) with the key, as all of these do."""
    ids: set[int] = set()
    for index, item in enumerate(fields.objects(config, "vlanTrunk")):
        ids.update(_trunk_ids(item, f"vlanTrunk[{index}]."))
    return tuple(sorted(ids))


def _trunk_ids(item: Config, where: str) -> set[int]:
    given = {key: _trunk_id(item, key, where) for key in ("minID", "maxID", "id") if fields.field(item, key) is not None}
    if ("minID" in given) != ("maxID" in given):
        missing = "maxID" if "minID" in given else "minID"
        raise wrong(f'"{where}{missing}" is missing: minID and maxID are given together')
    found = {given["id"]} if "id" in given else set()
    if "minID" in given:
        if given["maxID"] < given["minID"]:
            raise wrong(f'"{where}minID" is {given["minID"]}, greater than maxID, {given["maxID"]}')
        found.update(range(given["minID"], given["maxID"] + 1))
    return found


def _trunk_id(item: Config, key: str, where: str) -> int:
    value = fields.integer(item, key, where)
    if not 1 <= value <= HIGHEST_VLAN:
        raise wrong(f'"{where}{key}" is {value}: 1 to {HIGHEST_VLAN} is right')
    return value


def parse_mac(text: str, key: str) -> bytes:
    """Read a MAC address (02:00:00:00:00:01, with - or as three groups with dots). Raises CniError (7) with the key."""
    separator = next((one for one in ":-." if one in text), ":")
    groups = text.split(separator)
    are_whole = all(len(group) == (4 if separator == "." else 2) for group in groups)
    try:
        mac = bytes.fromhex("".join(groups)) if are_whole else b""
    except ValueError:
        mac = b""
    if len(mac) != _MAC_BYTES or not any(mac) or mac[0] & 1:
        raise wrong(f'"{key}" is "{text}": the MAC address of one interface is right, like 02:00:00:00:00:01')
    return mac
