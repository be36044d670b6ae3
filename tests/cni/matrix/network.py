"""Everything that can be seen of one attachment, without what is random: interface names, MACs, paths of namespaces."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json, Node
    from tests.lab.namespaces import Namespace

HOST_SETTINGS: Final = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.cni0.accept_ra")
POD_SETTINGS: Final = (
    "net.ipv4.conf.eth0.arp_notify", "net.ipv4.conf.eth0.accept_redirects",
    "net.ipv6.conf.lo.disable_ipv6", "net.ipv6.conf.eth0.disable_ipv6", "net.ipv6.conf.eth0.accept_dad",
    "net.ipv6.conf.eth0.enhanced_dad", "net.ipv6.conf.eth0.accept_ra", "net.ipv6.conf.eth0.keep_addr_on_down",
)  # fmt: skip
_LOOK: Final = "ip -j -d addr; echo '#'; ip route; ip -6 route; echo '#'; nft list ruleset; echo '#'; sysctl -e {}"
_RANDOM: Final = (
    (re.compile(r"veth[0-9a-f]{8}"), "VETH"), (re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}"), "MAC"), (re.compile(r"uplab[\w-]+"), "NETNS")
)  # fmt: skip


class Sight:
    """What is in a namespace."""

    def __init__(self, namespace: Namespace, settings: tuple[str, ...]) -> None:
        links, routes, rules, values = namespace.run("sh", "-c", _LOOK.format(" ".join(settings))).split("#\n")
        self.links: dict[str, Json] = {one["ifname"]: one for one in json.loads(links)}
        self.routes = {
            " ".join(line.replace(" pref medium", "").replace(" linkdown", "").split())
            for line in routes.splitlines()
            if not line.startswith("fe80::")
        }
        self.rules = rules
        self.settings = values.splitlines()

    def addresses(self, name: str) -> set[tuple[str, int, str]]:
        """Give an interface's addresses of its own: address, prefix length, broadcast."""
        found = self.links.get(name, {}).get("addr_info", ())
        return {(one["local"], one["prefixlen"], one.get("broadcast", "")) for one in found if one["scope"] == "global"}

    def link(self, name: str) -> Json:
        """Give an interface's facts; empty when it is not there."""
        if name not in self.links:
            return {}
        found = self.links[name]
        port = found["linkinfo"].get("info_slave_data", {})
        kind = found["linkinfo"]["info_kind"]
        filters = found["linkinfo"].get("info_data", {}).get("vlan_filtering", 0)
        flags = sorted(set(found["flags"]) & {"UP", "LOWER_UP", "PROMISC"})
        seen = {"mtu": found["mtu"], "flags": flags, "kind": kind, "master": found.get("master"), "filters": filters}
        return {**seen, **({"state": found["operstate"], "hairpin": port["hairpin"], "isolated": port["isolated"]} if port else {})}


def of(node: Node, pod: Namespace) -> Json:
    """Look at host, pod and store."""
    host, inside = Sight(node.host, HOST_SETTINGS), Sight(pod, POD_SETTINGS)
    ports = sorted(name for name, one in host.links.items() if one.get("master") == "cni0")
    macs = [one["address"] for one in host.links.values()] + [one["address"] for one in inside.links.values()]
    return {
        "bridge": host.link("cni0"),
        "ports": [host.link(name) for name in ports],
        "other links": sorted(set(map(anonymous, host.links)) - {"lo", "cni0", "VETH"}),
        "container": inside.link("eth0"),
        "bridge addresses": host.addresses("cni0"),
        "container addresses": inside.addresses("eth0"),
        "host routes": host.routes,
        "container routes": inside.routes,
        "host settings": host.settings,
        "container settings": inside.settings,
        "chosen macs": sorted(mac for mac in macs if mac.startswith("02:11:22:")),
        "vlans": node.host.run("sh", "-c", "bridge -c vlan show 2>/dev/null | sed 's/veth[0-9a-f]*/VETH/' || true"),
        "rules": "".join(line for line in anonymous(host.rules).splitlines(keepends=True) if not line.strip().startswith("comment")),
        "store": store(node),
    }


def store(node: Node) -> dict[str, str]:
    """Read every file of the network's store but the lock."""
    folder = node.store / "net1"
    return {path.name: path.read_bytes().decode() for path in folder.iterdir() if path.name != "lock"} if folder.is_dir() else {}


def anonymous(text: str) -> str:
    """Put a word in the place of everything random."""
    for pattern, word in _RANDOM:
        text = pattern.sub(word, text)
    return text


def result(said: Json) -> Json:
    """Take out of a result what is random, and an empty dns, which release 1.1.1 reports."""
    known: Json = json.loads(anonymous(json.dumps(said)).replace("/var/run/netns", "/run/netns"))
    if not known.get("dns"):
        known.pop("dns", None)
    return known
