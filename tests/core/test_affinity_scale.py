"""A million clients with session affinity: bounded memory, and below the bound every one of them is known exactly."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest

from tests.core.balancing import WEB, A, B, C
from uproxy.config import AffinitySettings
from uproxy.core.balance import AffinityTable

if TYPE_CHECKING:
    from uproxy.core.model import Endpoint

MILLION: Final = 1_000_000
HOURS: Final = 10800
BYTES_EACH: Final = 350
"""What a pin may cost: AffinitySettings.max_entries says about 300 bytes."""


def client(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def endpoint(number: int) -> Endpoint:
    return (A, B, C)[number % 3]


def pinned(table: AffinityTable, numbers: range) -> AffinityTable:
    """Pin clients one microsecond after another."""
    for number in numbers:
        table.pin(WEB, client(number), endpoint(number), number / MILLION)
    return table


def test_below_the_cap_each_of_a_million_clients_keeps_its_endpoint() -> None:
    table = pinned(AffinityTable(MILLION), range(MILLION))
    assert len(table) == MILLION
    assert not table.evictions
    assert all(table.find(WEB, client(number), 1, HOURS) == endpoint(number) for number in range(MILLION))


def test_beyond_the_cap_exactly_the_clients_that_came_last_are_known() -> None:
    cap = AffinitySettings().max_entries
    table = pinned(AffinityTable(cap), range(MILLION))
    assert (len(table), table.evictions) == (cap, MILLION - cap)
    known = [number for number in range(MILLION) if table.find(WEB, client(number), 1, HOURS)]
    assert known == list(range(MILLION - cap, MILLION))


@pytest.mark.slow
def test_the_memory_of_the_default_cap_is_what_the_setting_says() -> None:
    cap = AffinitySettings().max_entries
    tracemalloc.start()
    try:
        table = pinned(AffinityTable(cap), range(2 * cap))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == cap
    assert used < BYTES_EACH * cap
