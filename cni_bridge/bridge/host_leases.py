"""What host-local's store tells of a network's addresses, for host routes that have outlived their pods.

Reads the store as host-local does, ours or another's; decides nothing about leases.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.bridge.ipam import OURS
from cni_bridge.host_local import config, holders, ranges, store
from cni_bridge.host_local.place import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.skeleton import Request


def held(request: Request, ipam: str) -> list[bytes]:
    """Give the addresses that host-local's store holds for the attachment; empty for other plugins (ipam: the type)."""
    if ipam != OURS:
        return []
    place = Place(request.config)
    if not store.exists(place.folder):
        return []
    with store.Store(place.folder, place.lock_seconds) as opened:
        mine = holders.leases_of(opened.leases(), store.owner(request.container_id, request.ifname))
    return [addresses.parse(address) for address in mine]


def stale_ones(request: Request, ipam: str, packed: list[bytes]) -> list[bytes]:
    """Give those addresses that lie in host-local's ranges and no valid attachment holds; none for other plugins."""
    if ipam != OURS or not packed:
        return []
    sets = config.read_range_sets(request.config, request.version)
    place = Place(request.config)
    with store.Store(place.folder, place.lock_seconds) as opened:
        kept = store.owners(request.valid_attachments)
        there = {addresses.parse(address) for address, content in opened.leases().items() if content in kept}
    return [one for one in packed if one not in there and any(ranges.range_of(one, range_set) for range_set in sets)]
