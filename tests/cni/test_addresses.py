"""Addresses as bytes: the same texts and the same arithmetic as the module ipaddress, and Go's own habits."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_bridge import addresses

IPV6 = st.ip_addresses(v=6).map(int).map(ipaddress.IPv6Address).filter(lambda one: not one.ipv4_mapped)
ANY_ADDRESS = st.one_of(st.ip_addresses(v=4), IPV6)


@given(ANY_ADDRESS)
def test_an_address_becomes_bytes_and_canonical_text_again(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert addresses.parse(str(address)) == address.packed
    assert addresses.text(address.packed) == str(address)
    assert addresses.number(address.packed) == int(address)


@given(st.one_of(st.text(alphabet="0123456789abcdef:./x% \0é\u0661", max_size=20), st.ip_addresses().map(str)))
def test_what_is_no_address_is_refused_and_nothing_else(text: str) -> None:
    try:
        expected = ipaddress.ip_address(text)
    except ValueError:
        expected = None
    if expected is None or "%" in text:
        with pytest.raises(addresses.AddressError, match="is not an IP address"):
            addresses.parse(text)
    else:
        mapped = expected.ipv4_mapped if isinstance(expected, ipaddress.IPv6Address) else None
        assert addresses.parse(text) == (mapped or expected).packed


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("FD00:0:0::A", "fd00::a"),
        ("::1.2.3.4", "::102:304"),
        ("::1.2.0.0", "::102:0"),
        ("1:0:1:0:0:1:0:1", "1:0:1::1:0:1"),
    ],
)
def test_an_address_has_one_text_only(written: str, canonical: str) -> None:
    assert addresses.text(addresses.parse(written)) == canonical


@given(ANY_ADDRESS, st.integers(0, 128))
def test_networks_are_cut_where_the_prefix_ends(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> None:
    length = min(length, address.max_prefixlen)
    network = ipaddress.ip_network((address, length), strict=False)
    assert addresses.parse_cidr(f"{address}/{length}") == (address.packed, length)
    assert addresses.cidr_text(address.packed, length) == f"{address}/{length}"
    assert addresses.first_of(address.packed, length) == network.network_address.packed
    assert addresses.last_of(address.packed, length) == network.broadcast_address.packed
    assert addresses.is_in(address.packed, network.network_address.packed, length)


@pytest.mark.parametrize(
    "cidr",
    ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/\u0668", "10.0.0.0/8/8", "fd00::/129", "::ffff:10.0.0.0/120", ""],
)
def test_a_prefix_that_the_family_does_not_have_is_refused(cidr: str) -> None:
    with pytest.raises(addresses.AddressError):
        addresses.parse_cidr(cidr)


@pytest.mark.parametrize(
    ("address", "steps", "there"),
    [("10.0.0.255", 1, "10.0.1.0"), ("10.0.0.0", -1, "9.255.255.255"), ("255.255.255.255", 1, "0.0.0.0"), ("fd00::ffff", 2, "fd00::1:1")],
)
def test_steps_carry_over(address: str, steps: int, there: str) -> None:
    assert addresses.text(addresses.following(addresses.parse(address), steps)) == there


@pytest.mark.parametrize(
    ("address", "network", "length", "held"),
    [("10.1.0.1", "10.1.0.0", 24, True), ("10.1.1.1", "10.1.0.0", 24, False), ("fd00::1", "10.1.0.0", 0, False)],
)
def test_an_address_is_in_networks_of_its_family_only(address: str, network: str, length: int, *, held: bool) -> None:
    assert addresses.is_in(addresses.parse(address), addresses.parse(network), length) is held
