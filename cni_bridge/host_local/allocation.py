"""Which addresses an ADD gets: a decision about all range sets at once, made before anything is written.

Owns the rules and their errors; must not touch files. Leases come as a dict from canonical address to content, in
which an empty content is a free address.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.host_local.holders import is_owners
from cni_bridge.host_local.ranges import first_free, range_of, shown
from cni_bridge.protocol.errors import ADDRESS_REFUSED, ALREADY_ALLOCATED, NO_FREE_ADDRESS, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cni_bridge.host_local.ranges import Range, RangeSet

    Choice = tuple[Range, str]


class Book:
    """What is known when the decision is made: leases, the last address of each set, and who had which address."""

    __slots__ = ("last", "leases", "remembered")

    def __init__(self, leases: Mapping[str, bytes], last: Sequence[bytes | None], remembered: Mapping[str, str]) -> None:
        self.leases = leases
        self.last = last
        self.remembered = remembered


def choose(sets: Sequence[RangeSet], requested: Sequence[bytes], book: Book, owner: bytes, pod: str) -> list[Choice]:
    """Give one range and address for each set. Raises CniError (101, 102 or 103) and then nothing was taken.

    A set takes at most one of the requested addresses, and then nothing else is looked at but that one; `pod` is the
    name under which `book.remembered` knows the attachment, empty when nothing is to be remembered.
    """
    left = list(requested)
    choices = []
    for index, range_set in enumerate(sets):
        wanted = next((address for address in left if range_of(address, range_set)), None)
        try:
            if wanted is not None:
                left.remove(wanted)
                choices.append(_requested(range_set, wanted, book, owner))
            else:
                choices.append(_any(range_set, index, book, owner, pod))
        except CniError as error:
            raise CniError(error.code, f"failed to allocate for range {index}: {error.msg}", error.details) from None
    if left:
        raise CniError(ADDRESS_REFUSED, f"failed to allocate all requested IPs: {' '.join(map(addresses.text, left))}", _all_of(sets))
    return choices


def _requested(range_set: RangeSet, wanted: bytes, book: Book, owner: bytes) -> Choice:
    """Take the very address: free, or this attachment's already, so that the same request can be made again."""
    held = range_of(wanted, range_set)
    name = addresses.text(wanted)
    if held is None or held.gateway == wanted:
        raise CniError(ADDRESS_REFUSED, f"requested ip {name} is subnet's gateway")
    content = book.leases.get(name, b"")
    if content and not is_owners(content, owner):
        holder = f"held by {content.decode('utf-8', 'replace')}".replace("\r\n", " ")
        raise CniError(ADDRESS_REFUSED, f"requested IP address {name} is not available in range set {shown(range_set)}", holder)
    return held, name


def _any(range_set: RangeSet, index: int, book: Book, owner: bytes, pod: str) -> Choice:
    for address, content in book.leases.items():
        if is_owners(content, owner) and range_of(addresses.parse(address), range_set):
            container = owner.partition(b"\r\n")[0].decode("utf-8", "replace")
            raise CniError(ALREADY_ALLOCATED, f"{address} has been allocated to {container}, duplicate allocation is not allowed")
    taken = {address for address, content in book.leases.items() if content}
    last, kept = book.last[index], taken | book.remembered.keys()
    found = _remembered(range_set, taken, book, pod) or first_free(range_set, last, kept) or first_free(range_set, last, taken)
    if found is None:
        raise CniError(NO_FREE_ADDRESS, f"no IP addresses available in range set: {shown(range_set)}")
    return found


def _remembered(range_set: RangeSet, taken: set[str], book: Book, pod: str) -> Choice | None:
    """Give the address that the pod had, if it is free and still one that may be handed out."""
    for address, name in book.remembered.items():
        if name == pod and address not in taken:
            packed = addresses.parse(address)
            held = range_of(packed, range_set)
            if held is not None and packed != held.gateway:
                return held, address
    return None


def _all_of(sets: Sequence[RangeSet]) -> str:
    return f"range sets: {' '.join(map(shown, sets))}"
