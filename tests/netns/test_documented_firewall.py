"""The firewall rule that docs/install.md names: on a host whose INPUT drops, it and nothing more lets services through."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.lab import client
from tests.lab.manifests import targets
from tests.lab.waiting import eventually
from tests.lab.ways import CLIENTS, FAMILIES, ask, ways

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "install.md"
NFT: Final = """
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
  }
}
"""
IPTABLES: Final = (
    "iptables -A INPUT -i lo -j ACCEPT",
    "iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "iptables -P INPUT DROP",
    "ip6tables -A INPUT -i lo -j ACCEPT",
    "ip6tables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "ip6tables -A INPUT -p icmpv6 -j ACCEPT",
    "ip6tables -P INPUT DROP",
)


def documented(*programs: str) -> list[str]:
    """Give the commands of these programs in the chapter on firewalls."""
    chapter = DOCUMENT.read_text(encoding="utf-8").partition("\n## Firewalls\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^(?:{'|'.join(programs)}) .*$", chapter, re.MULTILINE)
    assert len(found) == len(programs)
    return found


def run(node: Namespace, *commands: str) -> None:
    for command in commands:
        node.run(*command.split())


@pytest.mark.parametrize("firewall", [("nft",), ("iptables", "ip6tables")], ids=["nftables", "iptables"])
def test_the_documented_rule_admits_every_service_address_and_uproxy_names_the_same(stand: Stand, firewall: tuple[str, ...]) -> None:
    node = stand.lab.node.namespace
    if firewall == ("nft",):
        node.nft(NFT)
    else:
        run(node, *IPTABLES)
    uproxy = stand.start()
    served = stand.services.add("web", targets([stand.lab.pod2]))
    for family in FAMILIES:
        client.poll(stand.lab.node, served.vip(family), served.port)
        for who in (name for name in CLIENTS if name != "node"):
            with pytest.raises(TimeoutError):
                client.ask(stand.lab[who], served.vip(family), served.port, patience=0.3)
    rules = documented(*firewall)
    for rule in rules:
        uproxy.wait_for_log("host_finding", rule)
    run(node, *rules)
    for way in ways():
        if way.address_class == "NodePort" and way.who != "node":
            continue
        assert eventually(partial(ask, stand, served, way)).name == "pod2", way
    for who in ("pod", "bridged", "outside"):
        assert client.ask(stand.lab[who], served.vip(4), served.port).address == stand.lab[who].address(4)
    with pytest.raises(TimeoutError):
        client.ask(stand.lab.pod, stand.lab.node.address(4), served.node_port, patience=0.5)
