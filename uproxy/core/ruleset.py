"""The nftables table as text: its static rules, and the element changes that lead from one content to another.

Owns the rules, the names of sets and maps, and reading back what `nft -j list table` prints. Must not know
how text reaches the kernel. Invariant: rules never change while uproxy runs; only elements do, and a script
holds nothing but the elements that differ. Syntax: man 8 nft; https://wiki.nftables.org.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Struct

from uproxy.core.model import Family, Protocol, RouteKey, family_of

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE: Final = "uproxy"
FULL_NAME: Final = f"inet {TABLE}"

_KEY: Final = "{address} . inet_proto . inet_service"
_ADDRESS_TYPES: Final = {Family.IPV4: "ipv4_addr", Family.IPV6: "ipv6_addr"}
_MARKER: Final = "rules_"

# What the sets and maps hold: name of the set or map -> text of the element -> text of its value ("" in sets).
Elements = dict[str, dict[str, str]]


class Marks(NamedTuple):
    """The two mark bits. deliver: what comes to uproxy; sent: what uproxy's listeners send."""

    deliver: int
    sent: int


class Capture(Struct, frozen=True):
    """What the kernel shall deliver. Its parts are not changed any more once it has been handed over.

    vips: every captured address, also one whose ports all have no endpoints.
    ports: VIP, protocol and service port -> the local port of the listener.
    refusing: those of ports whose listener is closed but whose open connections go on: new ones are refused.
    """

    vips: frozenset[str] = frozenset()
    ports: Mapping[RouteKey, int] = {}
    refusing: frozenset[RouteKey] = frozenset()


class Listed(Struct, frozen=True):
    """What the kernel holds. version: the rules'; statics: every chain and rule as listed, every set's and map's name and handle."""

    version: str
    statics: tuple[str, ...]
    elements: Elements


class Rules(NamedTuple):
    """One version of the static part. text: sets, maps and chains; objects: how many of them and of rules the kernel lists."""

    version: str
    text: str
    objects: int


def rules(marks: Marks, families: Iterable[Family]) -> Rules:
    """Give the static part for the families that the host has, with the mark bits filled in.

    An empty set in it bears the version, so that rules of another version, or with other marks, are recognised.
    """
    present = sorted(families)
    stores = [store for family in present for store in _stores(family)]
    chains = _chains(marks, present)
    body = "\n".join([*(f"  {store}" for store in stores), *(_chain(name, lines) for name, lines in chains.items())])
    version = _MARKER + hashlib.sha256(body.encode()).hexdigest()[:12]
    text = f"table {FULL_NAME} {{\n  set {version} {{ type mark; }}\n{body}\n}}\n"
    count = sum(not line.startswith("type ") for lines in chains.values() for line in lines)
    return Rules(version, text, len(stores) + 1 + len(chains) + count)


def _stores(family: Family) -> list[str]:
    address = _ADDRESS_TYPES[family]
    key = _KEY.format(address=address)
    return [
        f"set vips{family} {{ type {address}; }}",
        f"map ports{family} {{ type {key} : inet_service; }}",
        f"map origins{family} {{ type {key} : inet_service; }}",
        f"set refusing{family} {{ type {key}; }}",
    ]


def _chain(name: str, lines: Iterable[str]) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"])


def _chains(marks: Marks, families: list[Family]) -> dict[str, list[str]]:
    deliver, sent = f"{marks.deliver:#x}", f"{marks.sent:#x}"
    layers = {family: "ip" if family is Family.IPV4 else "ip6" for family in families}
    chains = {f"services{family}": _services(family, layer, deliver) for family, layer in layers.items()}
    # One look-up lets go what is for nobody here: it comes before every other test, for each packet of the node pays for it.
    to_services = [f"{layer} daddr @vips{family} goto services{family}" for family, layer in layers.items()]
    chains["arriving"] = [
        "type filter hook prerouting priority -300; policy accept;",
        # Ours, coming round over lo.
        f"meta mark & {deliver} != 0 accept",
        *to_services,
        # Never match: that a tproxy rule exists makes the kernel reassemble fragments before this hook.
        *(f"meta mark 0xffffffff meta l4proto udp tproxy {layer} to :1" for layer in layers.values()),
    ]
    chains["returning"] = [
        "type filter hook prerouting priority -90; policy accept;",
        # Not narrowed to TCP and UDP: ICMP errors that belong to a flow must come back too.
        f"meta mark & {deliver} == 0 socket transparent 1 meta mark set meta mark | {deliver}",
    ]
    chains["leaving"] = [
        "type route hook output priority -300; policy accept;",
        f"meta mark & {sent} != 0 accept",
        *to_services,
    ]
    chains["answering"] = [
        "type filter hook output priority -190; policy accept;",
        # Only what listeners send, always from a VIP: a refusal by the chains above already bears the port that was asked for.
        f"meta mark & {sent} == 0 accept",
        *(
            f"{protocol} sport set {layer} saddr . meta l4proto . th sport map @origins{family} accept"
            for family, layer in layers.items()
            for protocol in ("tcp", "udp")
        ),
    ]
    return chains


def _services(family: Family, layer: str, deliver: str) -> list[str]:
    key = f"{layer} daddr . meta l4proto . th dport"
    # Rewriting the port amends the checksum, and so would make a wrong one of "none" (zero, RFC 768; IPv6 knows none).
    unchecked = f"udp checksum 0 udp dport set {key} map @ports{family} udp checksum set 0 meta mark set meta mark | {deliver} accept"
    return [
        f"tcp flags & (fin | syn | rst | ack) == syn {key} @refusing{family} reject with tcp reset",
        f"tcp dport set {key} map @ports{family} meta mark set meta mark | {deliver} accept",
        *([unchecked] if family is Family.IPV4 else []),
        f"udp dport set {key} map @ports{family} meta mark set meta mark | {deliver} accept",
        "meta l4proto tcp reject with tcp reset",
        "meta l4proto udp reject",
    ]


def elements(capture: Capture, families: Iterable[Family]) -> Elements:
    """Give the elements of every set and map. What belongs to a family that the host has not is left out.

    A refusing UDP port has no connections that go on, so it is refused by being in no map.
    """
    found: Elements = {f"{store}{family}": {} for family in sorted(families) for store in ("vips", "ports", "origins", "refusing")}
    for vip in capture.vips:
        if (store := found.get(f"vips{family_of(vip)}")) is not None:
            store[vip] = ""
    for key, port in capture.ports.items():
        family = 6 if ":" in key.vip else 4
        ports = found.get(f"ports{family}")
        if ports is None or (key.protocol is Protocol.UDP and key in capture.refusing):
            continue
        protocol = "tcp" if key.protocol is Protocol.TCP else "udp"
        ports[f"{key.vip} . {protocol} . {key.port}"] = str(port)
        found[f"origins{family}"][f"{key.vip} . {protocol} . {port}"] = str(key.port)
    for key in capture.refusing:
        if key.protocol is Protocol.TCP and key in capture.ports and (store := found.get(f"refusing{family_of(key.vip)}")) is not None:
            store[f"{key.vip} . tcp . {key.port}"] = ""
    return found


def differing(old: Capture, new: Capture) -> tuple[Capture, Capture]:
    """Reduce both to what they do not share, so that a small change costs no text for the rest (10,000 ports: 2 ms)."""
    switched = old.refusing ^ new.refusing
    gone = {key: port for key, port in old.ports.items() if new.ports.get(key) != port or key in switched}
    added = {key: port for key, port in new.ports.items() if old.ports.get(key) != port or key in switched}
    return (
        Capture(old.vips - new.vips, gone, old.refusing & gone.keys()),
        Capture(new.vips - old.vips, added, new.refusing & added.keys()),
    )


def changes(old: Elements, new: Elements) -> str:
    """Give the script that leads from old to new, removals first; "" when they are equal. Sets that new does not have are left alone."""
    lines = []
    for store, wanted in new.items():
        there = old.get(store, {})
        gone = [_element(key, value) for key, value in there.items() if wanted.get(key) != value]
        added = [_element(key, value) for key, value in wanted.items() if there.get(key) != value]
        if gone:
            lines.append((0, f"delete element {FULL_NAME} {store} {{ {', '.join(gone)} }}"))
        if added:
            lines.append((1, f"add element {FULL_NAME} {store} {{ {', '.join(added)} }}"))
    return "".join(f"{line}\n" for _, line in sorted(lines, key=lambda line: line[0]))


def replacement(static: Rules, content: Elements) -> str:
    """Give the script that makes the whole table, in place of whatever bears its name, in one transaction."""
    return f"add table {FULL_NAME}\ndelete table {FULL_NAME}\n{static.text}{changes({}, content)}"


def _element(key: str, value: str) -> str:
    return f"{key} : {value}" if value else key


def parse(listing: bytes) -> Listed:
    """Read what `nft -j list table inet uproxy` printed; raises ValueError when it is not that.

    The outer document and each object are decoded one by one: a single call for all would hold the interpreter
    for 20 ms at 10,000 elements, and the loop with it.
    """
    try:
        document = msgspec.json.decode(listing, type=dict[str, list[dict[str, msgspec.Raw]]])["nftables"]
        return _listed(document)
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"nft printed something else than its table: {error}") from error


class _Object(Struct, gc=False):
    """The fields that matter of a chain, rule, set or map as man 5 libnftables-json describes them."""

    handle: int = 0
    name: str = ""
    elem: msgspec.Raw = msgspec.Raw(b"[]")


class _Key(Struct, gc=False):
    """The key of a set or map whose type is a concatenation."""

    concat: tuple[str, str, int]


def _listed(document: Iterable[Mapping[str, msgspec.Raw]]) -> Listed:
    statics: list[str] = []
    found: Elements = {}
    version = ""
    is_strange = False
    for entry in document:
        for kind in entry.keys() & {"chain", "rule", "set", "map"}:
            item = msgspec.json.decode(entry[kind], type=_Object)
            is_store = kind in ("set", "map")
            statics.append(f"{kind} {item.name} {item.handle}" if is_store else bytes(entry[kind]).decode())
            if item.name.startswith(_MARKER):
                version = item.name
            elif is_store:
                try:
                    found[item.name] = _read(item)
                except msgspec.ValidationError:
                    # Somebody put in what we never do, a comment for example: then the whole is not ours as it should be.
                    is_strange = True
    return Listed("" if is_strange else version, tuple(statics), found)


_VIPS: Final = msgspec.json.Decoder(list[str])
_KEYS: Final = msgspec.json.Decoder(list[_Key])
_PAIRS: Final = msgspec.json.Decoder(list[tuple[_Key, int]])


def _read(store: _Object) -> dict[str, str]:
    """Read the elements of one set or map."""
    if store.name.startswith("vips"):
        return {_normal(vip): "" for vip in _VIPS.decode(store.elem)}
    if store.name.startswith("refusing"):
        return {_text(key): "" for key in _KEYS.decode(store.elem)}
    return {_text(key): str(port) for key, port in _PAIRS.decode(store.elem)}


def _text(key: _Key) -> str:
    address, protocol, port = key.concat
    return f"{_normal(address)} . {protocol} . {port}"


def _normal(address: str) -> str:
    """Spell an address as Python does; the C library ends some IPv6 addresses like IPv4 ones."""
    return str(ipaddress.ip_address(address)) if ":" in address and "." in address else address


def local_ports(content: Elements) -> dict[RouteKey, int]:
    """Give the local port of each VIP's port that a table's maps hold."""
    found = {}
    for family in Family:
        for key, port in content.get(f"ports{family}", {}).items():
            address, protocol, number = key.split(" . ")
            found[RouteKey(address, Protocol(protocol.upper()), int(number))] = int(port)
    return found
