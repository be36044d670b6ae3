"""The order in which addresses are handed out, against lists."""

from __future__ import annotations

import ipaddress
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_bridge import addresses
from cni_bridge.host_local.ranges import Range, first_free, in_order, shown

if TYPE_CHECKING:
    from cni_bridge.host_local.ranges import RangeSet

BASES = (ipaddress.ip_address("10.0.0.0"), ipaddress.ip_address("fd00::"))


def made(first: str, last: str, gateway: str) -> Range:
    packed = [addresses.parse(text) for text in (first, last, gateway)]
    return Range(packed[0], 8, *packed)


@st.composite
def range_sets(draw: st.DrawFn) -> RangeSet:
    """One to three ranges of one family that do not overlap, with gateways in and outside of them."""
    base = draw(st.sampled_from(BASES))
    ends = sorted(draw(st.lists(st.integers(1, 60), min_size=2, max_size=6, unique=True).filter(lambda one: len(one) % 2 == 0)))
    pairs = draw(st.permutations(list(zip(ends[::2], ends[1::2], strict=True))))
    return tuple(made(str(base + first), str(base + last), str(base + draw(st.integers(1, 61)))) for first, last in pairs)


def naive(range_set: RangeSet, last: str | None) -> list[str]:
    """Write all addresses down, turn the list so that it begins after the last one, and leave gateways out."""
    every = [(one, addresses.text(addresses.following(one.start, step))) for one in range_set for step in range(64)]
    listed = [(one, text) for one, text in every if addresses.parse(text) in one]
    texts = [text for _, text in listed]
    begin = texts.index(last) + 1 if last in texts else 0
    turned = listed[begin:] + listed[:begin]
    return [text for one, text in turned if addresses.parse(text) != one.gateway]


@given(range_sets(), st.none() | st.integers(0, 62))
def test_the_order_is_a_turned_list(range_set: RangeSet, offset: int | None) -> None:
    base = ipaddress.ip_address(range_set[0].start) - (range_set[0].start[-1])
    last = None if offset is None else str(base + offset)
    packed = addresses.parse(last) if last else None
    assert [text for _, text in in_order(range_set, packed)] == naive(range_set, last)
    assert sum(one.size() for one in range_set) == len(naive(range_set, None))


@given(range_sets(), st.sets(st.integers(0, 62)))
def test_the_first_free_one_is_the_first_in_order_that_is_not_taken(range_set: RangeSet, offsets: set[int]) -> None:
    base = ipaddress.ip_address(range_set[0].start) - (range_set[0].start[-1])
    taken = {str(base + offset) for offset in offsets}
    found = first_free(range_set, None, taken)
    assert (found[1] if found else None) == next((text for text in naive(range_set, None) if text not in taken), None)


@pytest.mark.parametrize(
    ("ranges", "last", "taken", "expected"),
    [
        ([("10.0.0.1", "10.0.0.6")], None, [], "10.0.0.2"),
        ([("10.0.0.1", "10.0.0.6")], "10.0.0.5", [], "10.0.0.6"),
        ([("10.0.0.1", "10.0.0.6")], "10.0.0.5", ["10.0.0.5", "10.0.0.6"], "10.0.0.2"),
        ([("10.0.0.1", "10.0.0.6")], "10.0.0.4", ["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"], "10.0.0.4"),
        ([("10.0.0.1", "10.0.0.2"), ("10.0.1.1", "10.0.1.2")], "10.0.0.2", [], "10.0.1.2"),
        ([("10.0.0.1", "10.0.0.2"), ("10.0.1.1", "10.0.1.2")], "10.0.1.2", [], "10.0.0.2"),
        ([("10.0.0.1", "10.0.0.6")], "192.168.0.1", [], "10.0.0.2"),
        ([("10.0.0.1", "10.0.0.6")], "fd00::1", [], "10.0.0.2"),
        ([("10.0.0.1", "10.0.0.2")], None, ["10.0.0.2"], None),
    ],
)
def test_known_examples(ranges: list[tuple[str, str]], last: str | None, taken: list[str], expected: str | None) -> None:
    """The gateway of each range is its first address."""
    range_set = tuple(made(first, end, first) for first, end in ranges)
    found = first_free(range_set, addresses.parse(last) if last else None, set(taken))
    assert (found[1] if found else None) == expected


def test_a_huge_range_is_not_written_down_to_find_the_first_free_one() -> None:
    range_set = (made("fd00::1", "fd00::ffff:ffff:ffff:ffff", "fd00::1"),)
    assert [text for _, text in itertools.islice(in_order(range_set, addresses.parse("fd00::ffff:ffff:ffff:fffe")), 2)] == [
        "fd00::ffff:ffff:ffff:ffff",
        "fd00::2",
    ]
    assert shown(range_set) == "fd00::1-fd00::ffff:ffff:ffff:ffff"
