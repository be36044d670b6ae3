"""IP addresses and CIDRs as Kubernetes objects write them, made canonical and classified.

Owns the text of addresses; knows no object and no policy. Invariant: two texts that mean the same address
become the same canonical text, which is what every other module compares. IPv4 with leading zeros is
decimal, as Go read it until 1.17 and Kubernetes still does (KEP-4858); the standard library refuses it.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_is_canonical_ipv4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII).fullmatch
_is_sloppy_ipv4: Final = re.compile(r"0*([0-9]{1,3})\.0*([0-9]{1,3})\.0*([0-9]{1,3})\.0*([0-9]{1,3})", re.ASCII).fullmatch
_LONGEST: Final = 64
"""No address is longer, zones and absurd zeros apart: bounds the work for hostile text."""


class Special(StrEnum):
    """The kinds of addresses that are no ordinary unicast address."""

    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"


def canonical(text: str) -> str | None:
    """Give the canonical text of an address, or None if text is none.

    IPv6 as in RFC 5952; an IPv4-mapped IPv6 address is the IPv4 address, as in Go; zones are not allowed.
    """
    if _is_canonical_ipv4(text):
        return text
    if len(text) > _LONGEST:
        return None
    return _canonical_ipv6(text) if ":" in text else _canonical_ipv4(text)


def _canonical_ipv4(text: str) -> str | None:
    match = _is_sloppy_ipv4(text)
    if match is None:
        return None
    plain = ".".join(str(int(octet)) for octet in match.groups())
    return plain if _is_canonical_ipv4(plain) else None


@lru_cache(maxsize=16384)  # the standard library takes 5 us for an address, and slices repeat the same ones at each change
def _canonical_ipv6(text: str) -> str | None:
    head, colon, tail = text.rpartition(":")
    if "." in tail:
        octets = _canonical_ipv4(tail)
        if octets is None:
            return None
        tail = octets
    if "%" in text:
        return None
    try:
        address = ipaddress.IPv6Address(head + colon + tail)
    except ValueError:
        return None
    return str(address.ipv4_mapped or address)


def special(address: str) -> Special | None:
    """Tell what a canonical address is, if it is no ordinary one. Subnets' broadcast addresses are not known here."""
    return _special_ipv6(address) if ":" in address else _special_ipv4(address)


def _special_ipv4(address: str) -> Special | None:
    first = address[: address.index(".")]
    if first == "127":
        return Special.LOOPBACK
    if address == "0.0.0.0":  # noqa: S104 - compared, not bound
        return Special.UNSPECIFIED
    if address == "255.255.255.255":
        return Special.BROADCAST
    if address.startswith("169.254."):
        return Special.LINK_LOCAL
    return Special.MULTICAST if len(first) == 3 and "224" <= first <= "239" else None  # noqa: PLR2004 - three digits


_SPECIAL_IPV6: Final = {"::": Special.UNSPECIFIED, "::1": Special.LOOPBACK}


def _special_ipv6(address: str) -> Special | None:
    first = address[: address.index(":")]
    if len(first) == 4:  # noqa: PLR2004 - a shorter first group begins with a zero: ff::1 is no multicast address
        if first.startswith("ff"):
            return Special.MULTICAST
        if "fe80" <= first <= "febf":
            return Special.LINK_LOCAL
    return _SPECIAL_IPV6.get(address)


def canonical_cidr(text: str) -> str | None:
    """Give a CIDR with the bits of the host cleared and the address canonical, or None if text is none."""
    address, slash, length = text.partition("/")
    plain = canonical(address)
    if not slash or plain is None or (":" in address) != (":" in plain) or not (length.isascii() and length.isdigit()):
        return None
    try:
        return str(ipaddress.ip_network((plain, int(length)), strict=False))
    except ValueError:
        return None
