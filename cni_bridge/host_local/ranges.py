"""Ranges of addresses and the order in which they are handed out.

Owns the arithmetic and the round robin of the reference implementation; knows neither files nor configuration.
A range set is a tuple of ranges of one family; an ADD takes one address from each set.
"""

from __future__ import annotations

from cni_bridge import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    RangeSet = tuple["Range", ...]


class Range:
    """A part of a subnet, both ends inclusive; its gateway is never handed out. All addresses are packed."""

    __slots__ = ("end", "gateway", "prefix", "start", "subnet")

    def __init__(self, subnet: bytes, prefix: int, start: bytes, end: bytes, gateway: bytes) -> None:
        self.subnet = subnet
        self.prefix = prefix
        self.start = start
        self.end = end
        self.gateway = gateway

    def __contains__(self, address: bytes) -> bool:
        return len(address) == len(self.start) and self.start <= address <= self.end

    def __str__(self) -> str:
        return f"{addresses.text(self.start)}-{addresses.text(self.end)}"

    def overlaps(self, other: Range) -> bool:
        """Tell whether any address is in both."""
        return len(self.start) == len(other.start) and self.start <= other.end and other.start <= self.end

    def size(self) -> int:
        """Count the addresses that can be handed out."""
        return addresses.number(self.end) - addresses.number(self.start) + 1 - (self.gateway in self)


def range_of(address: bytes, range_set: RangeSet) -> Range | None:
    """Give the range that holds the address."""
    return next((one for one in range_set if address in one), None)


def shown(range_set: RangeSet) -> str:
    """Name a set as messages do: "first-last,first-last"."""
    return ",".join([str(one) for one in range_set])


def in_order(range_set: RangeSet, last: bytes | None) -> Iterator[tuple[Range, str]]:
    """Give every address of the set once, canonical text, as the reference implementation tries them.

    That is round robin: from the one after the last one that was handed out to the end of its range, through the
    ranges that follow, and on from the first range up to and including the last one itself. Without a last one, or when
    it is in no range (the configuration changed), from the beginning. A range leaves out its own gateway only.
    """
    held = range_of(last, range_set) if last is not None else None
    if held is None or last is None:
        yield from _all_of(range_set)
        return
    at = range_set.index(held)
    yield from _part_of(held, addresses.number(last) + 1, addresses.number(held.end))
    yield from _all_of(range_set[at + 1 :])
    yield from _all_of(range_set[:at])
    yield from _part_of(held, addresses.number(held.start), addresses.number(last))


def first_free(range_set: RangeSet, last: bytes | None, taken: Container[str]) -> tuple[Range, str] | None:
    """Give the first address in order whose text is not taken; None when there is none."""
    return next((found for found in in_order(range_set, last) if found[1] not in taken), None)


def _all_of(range_set: RangeSet) -> Iterator[tuple[Range, str]]:
    for one in range_set:
        yield from _part_of(one, addresses.number(one.start), addresses.number(one.end))


def _part_of(one: Range, start: int, end: int) -> Iterator[tuple[Range, str]]:
    length = len(one.start)
    for number in range(start, end + 1):
        address = number.to_bytes(length, "big")
        if address != one.gateway:
            yield one, addresses.text(address)
