"""Which versions of the specification the plugins speak, and how versions compare.

Owns the list; knows nothing of what differs between them (`results` does).
"""

from __future__ import annotations

from cni_bridge.protocol.errors import DECODING_FAILURE, INCOMPATIBLE_VERSION, CniError

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = SUPPORTED[-1]
UNSAID = "0.1.0"  # what a configuration without cniVersion means
FIRST_WITH = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}

_PARTS, _DIGITS = 3, 9


def parse(version: str) -> tuple[int, ...]:
    """Give major, minor and micro; what is left out is 0. Raises CniError (6)."""
    parts = version.split(".")
    if len(parts) > _PARTS or not all(part.isascii() and part.isdecimal() and len(part) <= _DIGITS for part in parts):
        raise CniError(DECODING_FAILURE, f'invalid version "{version}" in cniVersion: up to three numbers with dots between them are right')
    return (*map(int, parts), *[0] * (_PARTS - len(parts)))


def is_at_least(version: str, least: str) -> bool:
    """Compare two versions by their numbers. Raises CniError (6)."""
    return parse(version) >= parse(least)


def require(version: str, command: str) -> None:
    """Refuse a configuration whose version is not supported, or older than the command. Raises CniError (1 or 6)."""
    first = FIRST_WITH.get(command)
    if first and not is_at_least(version, first):
        details = f'config is "{version}", {command} came with "{first}"'
        raise CniError(INCOMPATIBLE_VERSION, f"config version does not allow {command}", details)
    if version not in SUPPORTED:
        known = " ".join(f'"{one}"' for one in SUPPORTED)
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI versions", f'config is "{version}", plugin supports [{known}]')
