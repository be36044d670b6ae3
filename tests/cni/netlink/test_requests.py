"""Every request that we make, byte for byte against what iproute2 and nft send for the same thing (golden.txt)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from cni_bridge.addresses import parse
from cni_bridge.netlink import address, bridge_port, link, nft_expressions, nftables, route
from cni_bridge.netlink.message import ACK, REQUEST

if TYPE_CHECKING:
    from cni_bridge.netlink.message import Message

FILE: Final = Path(__file__).with_name("golden.txt")
NLM_F_ECHO: Final = 0x8
CNI0, ETH0, VETH0 = 4, 5, 6

BRIDGE_MAC, HOST_MAC, POD_MAC = (bytes.fromhex(f"0200000000{last:02x}") for last in (1, 2, 3))


class Recorded(NamedTuple):
    """One request of golden.txt."""

    kind: int
    flags: int
    body: bytes


def recorded() -> dict[str, Recorded]:
    found = {}
    for paragraph in FILE.read_text(encoding="utf-8").split("\n# ")[1:]:
        command, head, *body = paragraph.strip().splitlines()
        kind, flags = (int(word, 16) for word in head.split())
        found[command] = Recorded(kind, flags, bytes.fromhex("".join(body)))
    return found


def made_route(dst: str, prefix: int, **rest: int | str) -> route.Route:
    gateway = parse(str(rest.pop("gateway"))) if "gateway" in rest else b""
    made = route.Route(parse(dst), prefix, ETH0, gateway=gateway)
    for name, value in rest.items():
        setattr(made, name, value)
    return made


TABLE = nftables.Table(nftables.INET, "cni_bridge")
GUARD = nftables.Table(nftables.NETDEV, "cni_bridge")
MULTICAST = parse("224.0.0.0")


def masquerade(network: str, prefix: int, multicast: str, multicast_prefix: int) -> bytes:
    source = parse(network)
    return (
        nft_expressions.from_network(source, prefix)
        + nft_expressions.to_network(source, prefix, equal=False)
        + nft_expressions.to_network(parse(multicast), multicast_prefix, equal=False)
        + nft_expressions.masquerade()
    )


def one_address() -> bytes:
    outside = nft_expressions.to_network(parse("10.1.0.0"), 16, equal=False)
    return nft_expressions.from_network(parse("10.1.0.5"), 32) + outside + nft_expressions.masquerade()


def third_rule() -> nftables.Rule:
    rule = object.__new__(nftables.Rule)
    rule.chain, rule.handle, rule.comment = "postrouting", 3, ""
    return rule


OURS: Final[dict[str, Message]] = {
    "ip link add cni0 address 02:00:00:00:00:01 mtu 1400 type bridge vlan_filtering 1": link.create_bridge(
        "cni0", BRIDGE_MAC, mtu=1400, vlan_filtering=True
    ),
    "ip link add cni0 address 02:00:00:00:00:01 type bridge": link.create_bridge("cni0", BRIDGE_MAC),
    "ip link add veth0 address 02:00:00:00:00:02 mtu 1400 master cni0 up type veth"
    " peer name eth0 address 02:00:00:00:00:03 mtu 1400": link.create_veth(
        link.VethEnd("veth0", HOST_MAC, master=CNI0), link.VethEnd("eth0", POD_MAC), 1400
    ),
    "bridge link set dev veth0 hairpin on isolated on": bridge_port.set_port(VETH0, hairpin=True, isolated=True),
    "bridge link set dev veth0 hairpin off": bridge_port.set_port(VETH0, hairpin=False),
    "bridge vlan add dev veth0 vid 10 pvid untagged": bridge_port.add_vlans(VETH0, [(10, 10, bridge_port.PVID | bridge_port.UNTAGGED)]),
    "bridge vlan add dev veth0 vid 20-30": bridge_port.add_vlans(VETH0, [(20, 30, 0)]),
    "bridge vlan del dev veth0 vid 1": bridge_port.remove_vlans(VETH0, [(1, 1, 0)]),
    "bridge vlan add dev cni0 vid 10 self": bridge_port.add_vlans(CNI0, [(10, 10, 0)], of_bridge=True),
    "ip link set cni0 up": link.set_up(CNI0, "cni0"),
    "ip link set eth0 up": link.set_up(ETH0, "eth0"),
    "ip addr add 10.1.0.5/16 broadcast 10.1.255.255 dev eth0": address.add(ETH0, parse("10.1.0.5"), 16, broadcast=parse("10.1.255.255")),
    "ip addr add fd00::5/64 nodad dev eth0": address.add(ETH0, parse("fd00::5"), 64, nodad=True),
    "ip addr del 10.1.0.1/32 dev eth0": address.delete(ETH0, parse("10.1.0.1"), 32),
    "ip route prepend default via 10.1.0.1 dev eth0 mtu 1400 advmss 1360": route.add(
        made_route("0.0.0.0", 0, gateway="10.1.0.1", mtu=1400, advmss=1360)
    ),
    "ip -6 route prepend fd01::/64 via fd00::1 dev eth0 metric 5": route.add(made_route("fd01::", 64, gateway="fd00::1", priority=5)),
    "ip route prepend 10.9.0.1/32 dev eth0 scope link": route.add(made_route("10.9.0.1", 32, scope=route.LINK_SCOPE)),
    "ip route replace 10.9.0.1/32 dev eth0 scope link": route.replace(made_route("10.9.0.1", 32, scope=route.LINK_SCOPE)),
    "ip route prepend 10.8.0.0/24 via 10.1.0.1 dev eth0 table 1000": route.add(
        made_route("10.8.0.0", 24, gateway="10.1.0.1", table=1000)
    ),
    "ip route del unicast 10.9.0.1/32 dev eth0 scope link proto boot": route.delete(made_route("10.9.0.1", 32, scope=route.LINK_SCOPE)),
    "ip route get fibmatch 10.9.0.1": route.match(parse("10.9.0.1")),
    "nft add table netdev cni_bridge": GUARD.declare(),
    "nft add chain netdev cni_bridge veth0 { type filter hook ingress device veth0 priority 0; policy accept; }": GUARD.declare_chain(
        "veth0", nftables.Hook("filter", nftables.INGRESS_HOOK, 0, "veth0")
    ),
    'nft add rule netdev cni_bridge veth0 ether saddr != 02:00:00:00:00:03 drop comment "y"': GUARD.append_rule(
        "veth0", nft_expressions.not_from_mac(POD_MAC) + nft_expressions.verdict(nft_expressions.DROP), "y"
    ),
    "nft delete chain netdev cni_bridge veth0": GUARD.delete_chain("veth0"),
    "nft add table inet cni_bridge": TABLE.declare(),
    "nft add chain inet cni_bridge postrouting { type nat hook postrouting priority 100; policy accept; }": TABLE.declare_chain(
        "postrouting", nftables.Hook("nat", nftables.POSTROUTING_HOOK, nftables.SOURCE_NAT_PRIORITY)
    ),
    "nft add rule inet cni_bridge postrouting ip saddr 10.1.0.0/16 ip daddr != 10.1.0.0/16 ip daddr != 224.0.0.0/4"
    ' masquerade comment "net: pods"': TABLE.append_rule("postrouting", masquerade("10.1.0.0", 16, "224.0.0.0", 4), "net: pods"),
    "nft add rule inet cni_bridge postrouting ip6 saddr fd00::/64 ip6 daddr != fd00::/64 ip6 daddr != ff00::/8"
    ' masquerade comment "net: pods"': TABLE.append_rule("postrouting", masquerade("fd00::", 64, "ff00::", 8), "net: pods"),
    "nft add rule inet cni_bridge postrouting ip saddr 10.1.16.0/20 masquerade": TABLE.append_rule(
        "postrouting", nft_expressions.from_network(parse("10.1.16.0"), 20) + nft_expressions.masquerade()
    ),
    "nft add chain inet cni_bridge masq_checks": TABLE.declare_chain("masq_checks"),
    'nft add rule inet cni_bridge masq_checks ip saddr 10.1.0.5 ip daddr != 10.1.0.0/16 masquerade comment "x"': TABLE.append_rule(
        "masq_checks", one_address(), "x"
    ),
    "nft add rule inet cni_bridge postrouting ip daddr 224.0.0.0/4 return": TABLE.append_rule(
        "postrouting",
        nft_expressions.of_family(MULTICAST)
        + nft_expressions.to_network(MULTICAST, 4, equal=True)
        + nft_expressions.verdict(nft_expressions.RETURN),
    ),
    "nft add rule inet cni_bridge postrouting goto masq_checks": TABLE.append_rule(
        "postrouting", nft_expressions.verdict(nft_expressions.GOTO, "masq_checks")
    ),
    "nft delete rule inet cni_bridge postrouting handle 3": TABLE.delete_rule(third_rule()),
    "nft flush chain inet cni_bridge postrouting": TABLE.flush_chain("postrouting"),
    "nft delete table inet cni_bridge": TABLE.delete(),
}
BY_INDEX: Final = {"ip link del veth0"}
"""Ours goes by name, which saves the look-up that ip makes before: tested in a namespace."""


def test_every_recorded_request_is_compared() -> None:
    assert set(recorded()) == set(OURS) | BY_INDEX


@pytest.mark.parametrize("command", OURS)
def test_our_request_is_the_one_that_the_ordinary_tool_sends(command: str) -> None:
    theirs, ours = recorded()[command], OURS[command]
    assert (theirs.kind, theirs.body.hex(" ", 4)) == (ours.kind, ours.body.hex(" ", 4))
    assert theirs.flags & ~NLM_F_ECHO | REQUEST | ACK == ours.flags | REQUEST | ACK
