"""ADD: what is read, decided and written, in which order, under the store's lock.

Owns that order; the decision is `allocation`'s. What could not be written whole is taken back.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.host_local import allocation, config
from cni_bridge.host_local.place import Place
from cni_bridge.host_local.store import Store, failure, owner
from cni_bridge.protocol import results

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cni_bridge.host_local.allocation import Choice
    from cni_bridge.host_local.ranges import RangeSet
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request


def take(request: Request) -> tuple[Result, list[str]]:
    """Do what `verbs.take` promises."""
    sets = config.read_range_sets(request.config, request.version)
    wish = config.Wish(request.config, request.args, request.ifname)
    result = results.empty()
    result["routes"] = config.read_routes(request.config)
    _add_dns(result, config.resolv_conf_of(request.config))
    place = Place(request.config)
    with Store(place.folder, place.lock_seconds) as store:
        choices, new = _allocate(store, place, sets, wish, owner(request.container_id, request.ifname))
    result["ips"] = [{"address": f"{address}/{one.prefix}", "gateway": addresses.text(one.gateway)} for one, address in choices]
    return result, new


def _allocate(store: Store, place: Place, sets: Sequence[RangeSet], wish: config.Wish, mine: bytes) -> tuple[list[Choice], list[str]]:
    """Decide, then write; what could not be written whole is taken back. Give the choices, and which addresses are new."""
    try:
        if place.resets_at_boot:
            _release_what_a_reboot_left(store)
        remembered = _remembered(store, wish.pod)
        leases = store.leases()
        book = allocation.Book(leases, [store.last_reserved(index) for index in range(len(sets))], remembered)
        choices = allocation.choose(sets, wish.requested, book, mine, wish.pod)
        new = [address for _, address in choices if not leases.get(address)]
        _write(store, choices, mine, new, pods=_updated(remembered, wish.pod, choices))
    except OSError as reason:
        raise failure(store.path, reason) from None
    return choices, new


def _write(store: Store, choices: Sequence[Choice], mine: bytes, new: Sequence[str], *, pods: bytes) -> None:
    try:
        for index, (_, address) in enumerate(choices):
            store.reserve(address, mine)
            store.remember_last(index, address)
        if pods:
            store.remember_pods(pods)
    except OSError:
        for address in new:
            store.release(address)
        raise


def _add_dns(result: Result, path: str) -> None:
    if path:
        from cni_bridge.host_local import resolv_conf  # noqa: PLC0415 - few configurations have it, and every import costs

        result["dns"] = resolv_conf.read(path)


def _release_what_a_reboot_left(store: Store) -> None:
    from cni_bridge.host_local import reboot  # noqa: PLC0415 - as above

    reboot.release_what_a_reboot_left(store, reboot.this_boot())


def _remembered(store: Store, pod: str) -> dict[str, str]:
    if not pod:
        return {}
    from cni_bridge.host_local import pod_addresses  # noqa: PLC0415 - as above

    return pod_addresses.decode(store.pods())


def _updated(remembered: Mapping[str, str], pod: str, choices: Sequence[Choice]) -> bytes:
    if not pod:
        return b""
    from cni_bridge.host_local import pod_addresses  # noqa: PLC0415 - as above

    return pod_addresses.encode(pod_addresses.updated(remembered, pod, [address for _, address in choices]))
