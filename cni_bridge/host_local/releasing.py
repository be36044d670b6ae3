"""DEL and GC: which leases go, and the removal of all that can be removed.

Owns the choice by holder; reads nothing of the configuration but the store's place.
"""

from __future__ import annotations

from cni_bridge.host_local.holders import leases_of
from cni_bridge.host_local.place import Place
from cni_bridge.host_local.store import Store, exists, owner, owners, read_leases
from cni_bridge.protocol.errors import IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_bridge.protocol.skeleton import Request


def give_back(request: Request, taken: Sequence[str]) -> None:
    """Do what `verbs.give_back` promises."""
    place = Place(request.config)
    mine = owner(request.container_id, request.ifname)
    with Store(place.folder, place.lock_seconds) as store:
        leases = read_leases(store)
        _release(store, [address for address in taken if leases.get(address) == mine.strip()])


def del_(request: Request) -> None:
    """Do what `verbs.del_` promises."""
    place = Place(request.config)
    if not exists(place.folder):
        return
    mine = owner(request.container_id, request.ifname)
    with Store(place.folder, place.lock_seconds) as store:
        _release(store, leases_of(read_leases(store), mine))


def gc(request: Request) -> None:
    """Do what `verbs.gc` promises."""
    keep = owners(request.valid_attachments)
    place = Place(request.config)
    if not exists(place.folder):
        return
    with Store(place.folder, place.lock_seconds) as store:
        _release(store, [address for address, content in read_leases(store).items() if content not in keep])


def _release(store: Store, held: Sequence[str]) -> None:
    """Release all that can be; report the others together."""
    failed = []
    for address in held:
        try:
            store.release(address)
        except OSError as reason:
            failed.append(f"{address}: {reason.strerror}")
    if failed:
        raise CniError(IO_FAILURE, f"the store {store.path} keeps leases that should be released", "; ".join(failed))
