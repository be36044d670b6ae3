"""Whose a lease is, by its content.

Pure. Leases come as a dict from canonical address to content.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def is_owners(content: bytes, owner: bytes) -> bool:
    """Tell whether a lease is the attachment's, in the present form or, with the container ID alone, the earlier one."""
    return content in {owner, owner.partition(b"\r\n")[0]}


def leases_of(leases: Mapping[str, bytes], owner: bytes) -> list[str]:
    """Give the addresses that the attachment holds; those in the earlier form only when there is no other."""
    held = [address for address, content in leases.items() if content == owner]
    return held or [address for address, content in leases.items() if content == owner.partition(b"\r\n")[0]]
