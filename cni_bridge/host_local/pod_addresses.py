"""Which pod had which address last, so that it gets it again: text to a dict and back.

Owns the form: a line of "<address> <namespace>/<name>/<interface>" each. An address has one entry at most, so there are never more
than addresses. No line can be taken for a lease by the reference implementation: no container ID holds a space.
"""

from __future__ import annotations

from cni_bridge import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def decode(content: bytes) -> dict[str, str]:
    """Give address to pod; a damaged line is forgotten."""
    lines = [line.split() for line in content.decode("utf-8", "replace").splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2 and _is_address(line[0])}  # noqa: PLR2004 - address and pod


def encode(remembered: Mapping[str, str]) -> bytes:
    """Write what `decode` reads."""
    return "".join([f"{address} {pod}\n" for address, pod in remembered.items()]).encode("utf-8", "replace")


def updated(remembered: Mapping[str, str], pod: str, given: Sequence[str]) -> dict[str, str]:
    """Give the memory after the pod got these addresses: its earlier ones are forgotten, and who else had the new ones."""
    others = {address: name for address, name in remembered.items() if name != pod and address not in given}
    return {**others, **dict.fromkeys(given, pod)}


def _is_address(text: str) -> bool:
    try:
        addresses.parse(text)
    except addresses.AddressError:
        return False
    return True
