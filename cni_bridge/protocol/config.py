"""The network configuration on stdin: decoded, named, and read field by field.

Owns what every plugin's configuration has in common; must not know any plugin's own keys. As in the reference
implementation keys match in any case, the exact one first, and null is a field that is not there.
"""

from __future__ import annotations

from cni_bridge.protocol import json_codec, versions
from cni_bridge.protocol.environment import is_name
from cni_bridge.protocol.errors import DECODING_FAILURE, INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_bridge.protocol.json_codec import Json

    Config = dict[str, Json]

_VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")  # libcni writes both, the second by an old mistake


def decode(stdin: bytes) -> Config:
    """Give the configuration of a network, whose name is checked. Raises CniError (6 or 7)."""
    try:
        config = json_codec.decode(stdin)
    except ValueError as reason:
        raise CniError(DECODING_FAILURE, f"error unmarshall network config: {reason}") from None
    if not isinstance(config, dict):
        raise CniError(DECODING_FAILURE, f"error unmarshall network config: it is {_shown(config)}, an object is right")
    network_name = text(config, "name")
    if not network_name:
        raise CniError(INVALID_CONFIG, "missing network name")
    if not is_name(network_name):
        raise CniError(INVALID_CONFIG, "invalid characters found in network name", network_name)
    return config


def version_of(config: Mapping[str, Json]) -> str:
    """Give the cniVersion; a configuration without one means 0.1.0."""
    return text(config, "cniVersion") or versions.UNSAID


def name_of(config: Mapping[str, Json]) -> str:
    """Give the network's name."""
    return text(config, "name")


def field(members: Mapping[str, Json], key: str) -> Json:
    """Give a member by its key in any case; None when it is not there."""
    value = members.get(key)
    if value is None:
        folded = key.lower()
        for other, value in members.items():
            if len(other) == len(key) and value is not None and other.lower() == folded:
                return value
        return None
    return value


def text(members: Mapping[str, Json], key: str, where: str = "") -> str:
    """Give a text; empty when it is not there. Raises CniError (6) with the key, as everything below does."""
    value = field(members, key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(value, where + key, "a string")
    return value


def flag(members: Mapping[str, Json], key: str, where: str = "", *, default: bool = False) -> bool:
    """Give a boolean."""
    value = field(members, key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _wrong(value, where + key, "true or false")
    return value


def integer(members: Mapping[str, Json], key: str, where: str = "", *, default: int = 0) -> int:
    """Give a whole number."""
    value = field(members, key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, where + key, "a whole number")
    return value


def section(members: Mapping[str, Json], key: str, where: str = "") -> Config:
    """Give an object; empty when it is not there."""
    value = field(members, key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(value, where + key, "an object")
    return value


def sequence(members: Mapping[str, Json], key: str, where: str = "") -> list[Json]:
    """Give an array; empty when it is not there."""
    value = field(members, key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(value, where + key, "an array")
    return value


def objects(members: Mapping[str, Json], key: str, where: str = "") -> list[Config]:
    """Give an array of objects."""
    items = []
    for index, item in enumerate(sequence(members, key, where)):
        if not isinstance(item, dict):
            raise _wrong(item, f"{where}{key}[{index}]", "an object")
        items.append(item)
    return items


def texts(members: Mapping[str, Json], key: str, where: str = "") -> list[str]:
    """Give an array of texts."""
    items = []
    for index, item in enumerate(sequence(members, key, where)):
        if not isinstance(item, str):
            raise _wrong(item, f"{where}{key}[{index}]", "a string")
        items.append(item)
    return items


def valid_attachments(config: Mapping[str, Json]) -> frozenset[tuple[str, str]]:
    """Give the (container ID, interface name) pairs that GC must keep (specification, section 2, "GC").

    Raises CniError (7) when the list is not there at all: everything would be stale then. Null is an empty list, which
    is what a runtime written in Go makes of no attachments.
    """
    for key in _VALID_ATTACHMENTS:
        if key in config:
            pairs = [(text(one, "containerID", key + "[]."), text(one, "ifname", key + "[].")) for one in objects(config, key)]
            return frozenset(pairs)
    raise CniError(INVALID_CONFIG, f'GC needs "{_VALID_ATTACHMENTS[0]}", the attachments to keep; without it nothing is removed')


def _wrong(value: Json, key: str, right: str) -> CniError:
    return CniError(DECODING_FAILURE, f'"{key}" is {_shown(value)}: {right} is right')


def _shown(value: Json) -> str:
    """Quote a value for a message, shortened: some configurations are long."""
    longest = 80
    shown = json_codec.encode(value)
    return shown if len(shown) <= longest else f"{shown[:longest]}..."
