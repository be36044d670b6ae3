"""Who may reach a listener, as a program that the kernel runs on what begins a connection and on each datagram.

Owns the text of classic BPF for lists of client addresses; must not know sockets. A client has to be in every list; who
is not is dropped without an answer. Invariant: a program says yes to exactly the addresses that its lists hold.
https://docs.kernel.org/networking/filter.html; linux/bpf_common.h, linux/filter.h.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple

from uproxy.core.model import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Lists = tuple[tuple[str, ...], ...]
"""CIDRs: () for everybody, ((),) for nobody."""

# BPF_LD | BPF_W | BPF_ABS, BPF_ALU | BPF_AND | BPF_K, BPF_JMP | BPF_J... | BPF_K, BPF_RET | BPF_K.
_LOAD: Final = 0x20
_LOAD_BYTE: Final = 0x30
_AND: Final = 0x54
_JUMP: Final = 0x05
_IF_EQUAL: Final = 0x15
_IF_GREATER: Final = 0x25
_IF_AT_LEAST: Final = 0x35
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALL_OF_IT: Final = 0xFFFFFFFF
_NOTHING: Final = 0
# SKF_NET_OFF: offsets into the IP header, whatever the socket calls its beginning. The source address in it follows.
_NETWORK_HEADER: Final = 0xFFF00000
_SOURCE: Final = {Family.IPV4: _NETWORK_HEADER + 12, Family.IPV6: _NETWORK_HEADER + 8}
_WORD: Final = 32
# RFC 9293, 3.1: where the flags are in a TCP header, which is where a listening socket's packets begin, and SYN among them.
_TCP_FLAGS: Final = 13
_SYN: Final = 0x02


class Instruction(NamedTuple):
    """One struct sock_filter: the code, how many instructions to skip if true and if false, and the operand."""

    code: int
    if_true: int
    if_false: int
    operand: int


DROP_ALL: Final = (Instruction(_RETURN, 0, 0, _NOTHING),)
"""The program that lets in nobody."""
_ADMIT_ALL: Final = (Instruction(_RETURN, 0, 0, _ALL_OF_IT),)


def program(lists: Lists, family: Family) -> tuple[Instruction, ...]:
    """Give the program for clients of one family; () where everybody may come in."""
    if not lists:
        return ()
    tests = [_test(disjoint(cidrs, family), family) for cidrs in lists]
    return (*(each for test in tests for each in test), *_ADMIT_ALL)


def without_newcomers(lists: Lists, family: Family) -> tuple[Instruction, ...]:
    """Give the program for a TCP listener that drops who begins a handshake, and lets those admitted go on with theirs."""
    syn = (Instruction(_LOAD_BYTE, 0, 0, _TCP_FLAGS), Instruction(_IF_ANY_BIT, 0, 1, _SYN), *DROP_ALL)
    return (*syn, *(program(lists, family) or _ADMIT_ALL))


def disjoint(cidrs: Iterable[str], family: Family) -> list[tuple[int, int]]:
    """Give the networks of one family as the fewest that hold the same: address and prefix length."""
    networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
    if family is Family.IPV4:
        fours = ipaddress.collapse_addresses(network for network in networks if isinstance(network, ipaddress.IPv4Network))
        return [(int(network.network_address), network.prefixlen) for network in fours]
    sixes = ipaddress.collapse_addresses(network for network in networks if isinstance(network, ipaddress.IPv6Network))
    return [(int(network.network_address), network.prefixlen) for network in sixes]


def _test(networks: Sequence[tuple[int, int]], family: Family) -> list[Instruction]:
    """Give the instructions that return nothing unless the source is in one of the networks; else they end behind themselves."""
    bodies = [_range(*network) if family is Family.IPV4 else _words(*network) for network in networks]
    first = [Instruction(_LOAD, 0, 0, _SOURCE[family])] if family is Family.IPV4 else []
    left = sum(len(body) + 1 for body in bodies)
    found = first
    for body in bodies:
        left -= len(body) + 1
        found += [*body, Instruction(_JUMP, 0, 0, left + 1)]
    return [*found, Instruction(_RETURN, 0, 0, _NOTHING)]


def _range(address: int, prefix: int) -> list[Instruction]:
    """Go on behind the jump that follows unless the loaded word is one of an IPv4 network's addresses."""
    last = address | ((1 << (_WORD - prefix)) - 1)
    return [Instruction(_IF_AT_LEAST, 0, 2, address), Instruction(_IF_GREATER, 1, 0, last)]


def _words(address: int, prefix: int) -> list[Instruction]:
    """Go on behind the jump that follows unless the source is in an IPv6 network, word by word."""
    found: list[Instruction] = []
    for index in range(-(-prefix // _WORD)):
        bits = min(_WORD, prefix - index * _WORD)
        mask = _ALL_OF_IT ^ ((1 << (_WORD - bits)) - 1)
        wanted = (address >> (96 - index * _WORD)) & mask
        found.append(Instruction(_LOAD, 0, 0, _SOURCE[Family.IPV6] + 4 * index))
        if bits < _WORD:
            found.append(Instruction(_AND, 0, 0, mask))
        found.append(Instruction(_IF_EQUAL, 0, 0, wanted))
    # A word that differs leads behind the jump at the end; no network has more than twelve instructions.
    return [one._replace(if_false=len(found) - index) if one.code == _IF_EQUAL else one for index, one in enumerate(found)]
