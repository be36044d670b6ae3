"""Local ports of rewritten listeners can be told from the service port and stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uproxy.core.local_ports import allocate
from uproxy.core.model import Protocol, RouteKey

if TYPE_CHECKING:
    from collections.abc import Collection


def choose(  # noqa: PLR0917 - as allocate
    port: int,
    inherited: int | None = None,
    taken: Collection[int] = (),
    service_ports: Collection[int] = (),
    first: int = 20000,
    last: int = 29999,
) -> int | None:
    return allocate(RouteKey("10.96.0.1", Protocol.TCP, port), inherited, taken, service_ports, first, last)


@pytest.mark.parametrize(
    ("port", "expected"),
    [(80, 20080), (443, 20443), (5432, 25432), (9999, 29999), (10000, 20000), (30080, 20080), (65535, 25535), (1, 20001), (20080, 20080)],
)
def test_the_last_four_digits_stay(port: int, expected: int) -> None:
    assert expected == choose(port)


def test_a_range_that_begins_elsewhere_keeps_the_digits_too() -> None:
    assert choose(80, first=15000, last=24999) == 20080


def test_a_small_range_is_filled_and_then_there_is_none() -> None:
    taken: set[int] = set()
    for _ in range(10):
        port = choose(80, taken=taken, first=20000, last=20009)
        assert port is not None
        taken.add(port)
    assert taken == set(range(20000, 20010))
    assert choose(80, taken=taken, first=20000, last=20009) is None


def test_a_range_larger_than_ten_thousand_is_used_up_to_its_end() -> None:
    assert choose(9999, taken=range(20000, 30000), first=20000, last=30005) == 30000


def test_the_next_free_port_is_taken_and_after_the_last_comes_the_first() -> None:
    assert choose(80, taken={20080, 20081}) == 20082
    assert choose(9999, taken={29999}) == 20000


def test_a_service_port_of_the_vip_is_never_used() -> None:
    assert choose(80, service_ports={20080}) == 20081
    assert choose(20080, service_ports={20080}) == 20081


def test_the_port_of_an_earlier_run_is_kept() -> None:
    assert choose(80, inherited=25000) == 25000


@pytest.mark.parametrize(
    ("inherited", "taken", "service_ports"),
    [(25000, {25000}, set()), (25000, set(), {25000}), (19999, set(), set()), (30000, set(), set())],
    ids=["taken", "a service port now", "below the range", "above the range"],
)
def test_the_port_of_an_earlier_run_is_given_up_when_it_cannot_be_used(inherited: int, taken: set[int], service_ports: set[int]) -> None:
    assert choose(80, inherited, taken, service_ports) == 20080


@given(
    st.integers(1, 65535),
    st.none() | st.integers(1, 65535),
    st.sets(st.integers(300, 330)),
    st.sets(st.integers(300, 330)),
    st.integers(300, 315),
    st.integers(315, 330),
)
def test_a_port_is_found_if_and_only_if_one_is_free(  # noqa: PLR0917 - hypothesis passes what it draws by position
    port: int, inherited: int | None, taken: set[int], service_ports: set[int], first: int, last: int
) -> None:
    free = set(range(first, last + 1)) - taken - service_ports
    found = choose(port, inherited, taken, service_ports, first, last)
    assert (found in free) if free else found is None
    assert inherited not in free or found == inherited
