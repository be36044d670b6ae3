"""The expressions that our nftables rules are made of (linux/netfilter/nf_tables.h), byte for byte as nft makes them.

Pure: bytes out. A rule is a join of expressions; all of them work on register 1 and end the rule when they do not match.
"""

from __future__ import annotations

from cni_bridge.addresses import first_of
from cni_bridge.netlink.message import NESTED, U8, U16, attribute, be32, text

_NAME, _DATA = 1, 2 | NESTED  # NFTA_EXPR_*
_ELEMENT = 1 | NESTED  # NFTA_LIST_ELEM
_VALUE = 1  # NFTA_DATA_VALUE
_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2 | NESTED, 1, 2
_REGISTER = 1  # NFT_REG_1; register 0 is the verdict
_EQUAL, _NOT_EQUAL = 0, 1  # NFT_CMP_*
_PROTOCOL_FAMILY, _INPUT_TYPE = 15, 8  # NFT_META_NFPROTO, NFT_META_IIFTYPE
_ETHERNET = 1  # ARPHRD_ETHER
_LINK_LAYER, _NETWORK_LAYER = 0, 1  # NFT_PAYLOAD_*
_SOURCE_MAC_AT = 6
_ADDRESSES_AT = {4: (12, 16), 16: (8, 24)}  # source and destination in the header, by the bytes of an address
_FAMILIES = {4: b"\x02", 16: b"\x0a"}
DROP, GOTO, RETURN = 0, -4, -5  # NF_DROP, NFT_GOTO, NFT_RETURN


def _expression(name: str, data: bytes) -> bytes:
    return attribute(_ELEMENT, text(_NAME, name) + attribute(_DATA, data))


def _load_meta(key: int) -> bytes:
    return _expression("meta", be32(2, key) + be32(1, _REGISTER))


def _load_payload(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", be32(1, _REGISTER) + be32(2, base) + be32(3, offset) + be32(4, length))


def _mask(length: int, bits: int) -> bytes:
    mask = first_of(b"\xff" * length, bits)
    values = attribute(4 | NESTED, attribute(_VALUE, mask)) + attribute(5 | NESTED, attribute(_VALUE, bytes(length)))
    return _expression("bitwise", be32(1, _REGISTER) + be32(2, _REGISTER) + be32(3, length) + values)


def _compare(value: bytes, *, equal: bool) -> bytes:
    operation = be32(2, _EQUAL if equal else _NOT_EQUAL)
    return _expression("cmp", be32(1, _REGISTER) + operation + attribute(3 | NESTED, attribute(_VALUE, value)))


def _match_prefix(offset: int, network: bytes, prefix: int, *, equal: bool) -> bytes:
    """Compare a prefix of whole bytes as so many bytes, any other one behind a mask."""
    if prefix % 8 == 0:
        size = prefix // 8
        return _load_payload(_NETWORK_LAYER, offset, size) + _compare(network[:size], equal=equal)
    size = len(network)
    return _load_payload(_NETWORK_LAYER, offset, size) + _mask(size, prefix) + _compare(first_of(network, prefix), equal=equal)


def of_family(address: bytes) -> bytes:
    """Match packets of the address's family."""
    return _load_meta(_PROTOCOL_FAMILY) + _compare(_FAMILIES[len(address)], equal=True)


def from_network(network: bytes, prefix: int) -> bytes:
    """Match packets of that family from the network. prefix: 1 or more."""
    return of_family(network) + _match_prefix(_ADDRESSES_AT[len(network)][0], network, prefix, equal=True)


def to_network(network: bytes, prefix: int, *, equal: bool) -> bytes:
    """Match the destination; the family must have been matched before. prefix: 1 or more."""
    return _match_prefix(_ADDRESSES_AT[len(network)][1], network, prefix, equal=equal)


def not_from_mac(mac: bytes) -> bytes:
    """Match frames with another source address."""
    is_ethernet = _load_meta(_INPUT_TYPE) + _compare(U16.pack(_ETHERNET), equal=True)
    return is_ethernet + _load_payload(_LINK_LAYER, _SOURCE_MAC_AT, len(mac)) + _compare(mac, equal=False)


def masquerade() -> bytes:
    """Translate to the address of the outgoing interface, and be done."""
    return _expression("masq", b"")


def verdict(code: int, chain: str = "") -> bytes:
    """End the rule with DROP, RETURN, or GOTO and a chain."""
    said = be32(_VERDICT_CODE, code & 0xFFFFFFFF) + (text(_VERDICT_CHAIN, chain) if chain else b"")
    return _expression("immediate", be32(1, 0) + attribute(2 | NESTED, attribute(_VERDICT, said)))


def comment(words: str) -> bytes:
    """Make a rule's comment as nft stores it: type, length and a final zero; at most 128 bytes (nft reads no more)."""
    value = words.encode()[:127] + b"\0"
    return U8.pack(0) + U8.pack(len(value)) + value


def read_comment(userdata: bytes) -> str:
    """Read the comment among a rule's user data; empty when there is none."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, size = userdata[offset], userdata[offset + 1]
        if kind == 0:
            return userdata[offset + 2 : offset + 2 + size].rstrip(b"\0").decode(errors="replace")
        offset += 2 + size
    return ""
