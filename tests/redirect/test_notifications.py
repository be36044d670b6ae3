"""Filters that run in the kernel, and what is heard through them."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uproxy.redirect import notifications
from uproxy.redirect.notifications import Field, Fields, passing
from uproxy.redirect.policy_routes import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.namespaces import Namespace

LOADS = {0x30: 1, 0x28: 2, 0x20: 4}


def passes(program: list[tuple[int, int, int, int]], packet: bytes) -> bool:
    """Run a classic BPF program as the kernel does (linux/filter.h): loads, equality jumps, returns."""
    accumulator, place = 0, 0
    while True:
        code, if_true, if_false, operand = program[place]
        place += 1
        if code == 0x06:
            return operand != 0
        if code == 0x15:
            place += if_true if accumulator == operand else if_false
        else:
            length = LOADS[code]
            if operand + length > len(packet):
                return False
            accumulator = int.from_bytes(packet[operand : operand + length], "big")


OFFSETS = st.integers(0, 6)
FIELDS = st.one_of(
    st.builds(Field, OFFSETS, st.lists(st.binary(min_size=1, max_size=1), min_size=1, max_size=4).map(tuple), st.just(value=True)),
    st.builds(Field, OFFSETS, st.tuples(st.binary(min_size=2, max_size=2)), st.booleans()),
)


@given(st.lists(st.lists(FIELDS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3), st.binary(min_size=8, max_size=8))
def test_a_filter_passes_what_fulfils_all_fields_of_one_alternative(alternatives: list[Fields], packet: bytes) -> None:
    def holds(field: Field) -> bool:
        return (packet[field.offset : field.offset + len(field.values[0])] in field.values) is field.is_one

    expected = any(all(map(holds, fields)) for fields in alternatives)
    assert passes(passing(*alternatives), packet) is expected


def test_a_message_that_is_too_short_is_dropped() -> None:
    assert not passes(passing((Field(4, (b"ab",)),)), b"xxxx")
    assert not passes(passing((Field(4, (struct.pack("=I", 1),)),)), b"")


async def heard(watch: Callable[[Callable[[], None]], notifications.Watch], host: Namespace, *lines: str) -> bool:
    """Do something on the host, then something that is always heard, and say whether the first was heard by itself."""
    calls = asyncio.Queue[None]()
    listening = watch(lambda: calls.put_nowait(None))
    try:
        await asyncio.to_thread(host.ip, *lines)
        # Long since in the socket if it passed the filter: a notification is queued before the request is answered.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return not calls.empty()
    finally:
        listening.close()


def removals(changed: Callable[[], None]) -> notifications.Watch:
    return notifications.route_removals(PROTOCOL, changed)


def placements(changed: Callable[[], None]) -> notifications.Watch:
    return notifications.placement_changes(PROTOCOL, changed)


OURS = f"local 10.9.9.9 dev lo table 9701 proto {PROTOCOL}"
OTHERS = "local 10.9.9.9 dev lo table 9701 proto 96"


@pytest.mark.netns
@pytest.mark.parametrize(
    ("before", "what", "by_removals", "by_placements"),
    [
        ("", f"route add {OURS}", False, False),
        (f"route add {OURS}", f"route del {OURS}", True, False),
        ("", f"route add {OTHERS}", False, True),
        (f"route add {OTHERS}", f"route del {OTHERS}", False, True),
        ("", "rule add pref 5 lookup 7", False, True),
        ("rule add pref 5 lookup 7", "rule del pref 5", False, True),
        ("rule add pref 5 goto 32766", "rule del pref 5", True, True),
        ("", "link add up-a type bridge", False, True),
        ("link add up-a type bridge", "addr add 10.3.3.3/24 dev up-a", False, True),
        ("", "link set lo down", True, True),
        ("rule add pref 5 lookup 9701", "rule del pref 5", True, True),
        ("", "link show", False, False),
    ],
)
def test_each_change_is_heard_by_whom_it_concerns(
    host: Namespace,
    before: str,
    what: str,
    by_removals: bool,  # noqa: FBT001 - a column of the table
    by_placements: bool,  # noqa: FBT001 - a column of the table
) -> None:
    for watch, expected in ((removals, by_removals), (placements, by_placements)):
        host.ip("link set lo up", *filter(None, [before]))
        assert host.call(asyncio.run, heard(watch, host, what)) is expected
        host.ip("route flush table 9701", *(["link del up-a"] if "up-a" in f"{before}{what}" else []))
        host.run("sh", "-c", "ip rule del pref 5 || true")


@pytest.mark.netns
def test_lost_messages_count_as_a_change(host: Namespace) -> None:
    async def body() -> None:
        changed = asyncio.Event()
        listening = notifications.placement_changes(PROTOCOL, changed.set)
        try:
            # Far more than any receive buffer holds, while the loop does not read.
            host.ip(*(f"route {verb} 10.{number}.0.0/24 dev lo" for number in range(250) for verb in ("add", "del") * 4))
            await asyncio.wait_for(changed.wait(), 1)
            changed.clear()
            await asyncio.to_thread(host.ip, "rule add pref 5 lookup 7")
            await asyncio.wait_for(changed.wait(), 1)
        finally:
            listening.close()

    host.call(asyncio.run, body())


@pytest.mark.netns
def test_after_closing_nothing_is_heard(host: Namespace) -> None:
    async def body() -> None:
        calls: list[None] = []
        listening = notifications.placement_changes(PROTOCOL, lambda: calls.append(None))
        listening.close()
        listening.close()
        await asyncio.to_thread(host.ip, "rule add pref 5 lookup 7")
        assert not calls

    host.call(asyncio.run, body())
