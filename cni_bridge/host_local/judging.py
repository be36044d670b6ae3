"""CHECK and STATUS: whether a lease is what the result said, and how full the pools are.

Owns the judgement; writes nothing but the probe that STATUS asks of the store.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.host_local import config
from cni_bridge.host_local.holders import leases_of
from cni_bridge.host_local.place import Place
from cni_bridge.host_local.ranges import range_of, shown
from cni_bridge.host_local.store import Store, exists, owner, read_leases
from cni_bridge.protocol.errors import NOT_AS_REPORTED, UNAVAILABLE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cni_bridge.host_local.ranges import RangeSet
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request


def check(request: Request) -> None:
    """Do what `verbs.check` promises."""
    sets = config.read_range_sets(request.config, request.version)
    place = Place(request.config)
    held = []
    if exists(place.folder):
        with Store(place.folder, place.lock_seconds) as store:
            held = leases_of(read_leases(store), owner(request.container_id, request.ifname))
    if not held:
        raise CniError(NOT_AS_REPORTED, f"host-local: Failed to find address added by container {request.container_id}", place.folder)
    lost = [address for address in _reported(request.prev_result, sets) if address not in held]
    if lost:
        raise CniError(NOT_AS_REPORTED, f"the lease of {lost[0]} is not held by {request.container_id} {request.ifname}", place.folder)


def status(request: Request) -> Mapping[str, object]:
    """Do what `verbs.status` promises."""
    sets = config.read_range_sets(request.config, request.version)
    place = Place(request.config)
    try:
        with Store(place.folder, place.lock_seconds) as store:
            leases = read_leases(store)
            store.try_to_write()
    except OSError as reason:
        raise CniError(UNAVAILABLE, f"the store {place.folder} cannot be written: {reason.strerror}") from None
    except CniError as error:
        raise CniError(UNAVAILABLE, error.msg, error.details) from None
    pools = [_pool(range_set, leases) for range_set in sets]
    full = [f"{pool['ranges']} ({pool['taken']} of {pool['size']} taken)" for pool in pools if pool["taken"] == pool["size"]]
    if full:
        raise CniError(UNAVAILABLE, f"no IP addresses available in range set: {'; '.join(full)}", place.folder)
    return {"pools": pools}


def _reported(result: Result | None, sets: Sequence[RangeSet]) -> list[str]:
    """Give those of a result's addresses that can only come from here."""
    found = [one["address"].partition("/")[0] for one in result["ips"]] if result else []
    return [address for address in found if any(range_of(addresses.parse(address), range_set) for range_set in sets)]


def _pool(range_set: RangeSet, leases: Mapping[str, bytes]) -> dict[str, object]:
    taken = [addresses.parse(address) for address, content in leases.items() if content]
    held = [(address, range_of(address, range_set)) for address in taken]
    count = sum(one is not None and address != one.gateway for address, one in held)
    return {"ranges": shown(range_set), "taken": count, "size": sum(one.size() for one in range_set)}
