"""Addresses and CIDRs become canonical, and special ones are told apart."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uproxy.core.addresses import Special, canonical, canonical_cidr, special

ADDRESSES = {
    "plain": ("10.96.0.1", "10.96.0.1"),
    "zeros": ("0.0.0.0", "0.0.0.0"),
    "largest": ("255.255.255.255", "255.255.255.255"),
    "leading zeros are decimal, never octal": ("010.011.012.099", "10.11.12.99"),
    "many leading zeros": ("0000010.0.0.0001", "10.0.0.1"),
    "octet too large": ("10.0.0.256", None),
    "octet too large behind zeros": ("10.0.0.0300", None),
    "three octets": ("10.0.1", None),
    "five octets": ("10.0.0.0.1", None),
    "empty octet": ("10..0.1", None),
    "empty": ("", None),
    "space": (" 10.0.0.1", None),
    "line feed": ("10.0.0.1\n", None),
    "sign": ("+10.0.0.1", None),
    "hexadecimal": ("0x10.0.0.1", None),
    "digits of another script": ("\N{ARABIC-INDIC DIGIT ONE}0.0.0.1", None),
    "a name": ("localhost", None),
    "port": ("10.0.0.1:80", None),
    "ipv6": ("fd00::1", "fd00::1"),
    "ipv6 capitals": ("FD00::ABCD", "fd00::abcd"),
    "ipv6 written out": ("fd00:0:0:0:0:0:0:1", "fd00::1"),
    "ipv6 leading zeros": ("fd00:0001::0010", "fd00:1::10"),
    "ipv6 unspecified": ("::", "::"),
    "ipv6 one zero group stays": ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
    "ipv6 zone": ("fe80::1%eth0", None),
    "ipv6 brackets": ("[fd00::1]", None),
    "ipv6 two gaps": ("fd00::1::2", None),
    "ipv6 too few groups": ("fd00:1", None),
    "ipv6 group too long": ("fd00::12345", None),
    "ipv4-mapped is the ipv4 address": ("::ffff:10.0.0.1", "10.0.0.1"),
    "ipv4-mapped with leading zeros": ("::ffff:010.0.0.1", "10.0.0.1"),
    "ipv4-mapped in hexadecimal": ("::ffff:a00:1", "10.0.0.1"),
    "ipv4 inside ipv6": ("64:ff9b::10.0.0.1", "64:ff9b::a00:1"),
    "bad ipv4 inside ipv6": ("64:ff9b::10.0.0.256", None),
    "absurdly long": ("0" * 100_000 + "1.0.0.1", None),
}


@pytest.mark.parametrize(("text", "expected"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_becomes_canonical_or_is_none(text: str, expected: str | None) -> None:
    assert expected == canonical(text)


CIDRS = {
    "plain": ("10.244.1.0/24", "10.244.1.0/24"),
    "host bits are cleared": ("10.244.1.7/24", "10.244.1.0/24"),
    "leading zeros": ("010.0.0.0/8", "10.0.0.0/8"),
    "one address": ("10.0.0.1/32", "10.0.0.1/32"),
    "everything": ("0.0.0.0/0", "0.0.0.0/0"),
    "ipv6": ("FD00:0:0:1::/64", "fd00:0:0:1::/64"),
    "no length": ("10.0.0.0", None),
    "empty length": ("10.0.0.0/", None),
    "length too large": ("10.0.0.0/33", None),
    "ipv6 length too large": ("fd00::/129", None),
    "negative length": ("10.0.0.0/-1", None),
    "netmask": ("10.0.0.0/255.0.0.0", None),
    "no address": ("/8", None),
    "length of another script": ("10.0.0.0/\N{ARABIC-INDIC DIGIT EIGHT}", None),
    "ipv4-mapped": ("::ffff:10.0.0.0/104", None),
}


@pytest.mark.parametrize(("text", "expected"), CIDRS.values(), ids=CIDRS)
def test_a_cidr_becomes_canonical_or_is_none(text: str, expected: str | None) -> None:
    assert expected == canonical_cidr(text)


KINDS = [
    ("0.0.0.0", Special.UNSPECIFIED),
    ("0.0.0.1", None),
    ("10.0.0.1", None),
    ("127.0.0.1", Special.LOOPBACK),
    ("127.255.0.9", Special.LOOPBACK),
    ("128.0.0.1", None),
    ("12.7.0.1", None),
    ("169.254.20.10", Special.LINK_LOCAL),
    ("169.25.4.1", None),
    ("223.255.255.255", None),
    ("224.0.0.1", Special.MULTICAST),
    ("239.255.255.255", Special.MULTICAST),
    ("23.0.0.1", None),
    ("240.0.0.1", None),
    ("255.255.255.255", Special.BROADCAST),
    ("255.255.255.254", None),
    ("::", Special.UNSPECIFIED),
    ("::1", Special.LOOPBACK),
    ("::2", None),
    ("fd00::1", None),
    ("fe7f::1", None),
    ("fe80::1", Special.LINK_LOCAL),
    ("febf::1", Special.LINK_LOCAL),
    ("fec0::1", None),
    ("ff02::1", Special.MULTICAST),
    ("ff::1", None),
]


@pytest.mark.parametrize(("address", "expected"), KINDS, ids=[address for address, _ in KINDS])
def test_special_addresses_are_told_apart(address: str, expected: Special | None) -> None:
    assert expected == special(address)


@given(st.ip_addresses())
def test_every_address_of_the_standard_library_is_understood_alike(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    plain = getattr(address, "ipv4_mapped", None) or address
    assert str(plain) == canonical(str(address)) == canonical(address.exploded)
    kind = special(str(plain))
    assert plain.is_multicast == (kind is Special.MULTICAST)
    assert plain.is_loopback == (kind is Special.LOOPBACK)
    assert plain.is_unspecified == (kind is Special.UNSPECIFIED)
    assert plain.is_link_local == (kind is Special.LINK_LOCAL)


@given(st.text(st.sampled_from("0123456789.:afF%/ x"), max_size=30))
def test_a_canonical_address_stays_what_it_is(text: str) -> None:
    found = canonical(text)
    assert found is None or canonical(found) == found
