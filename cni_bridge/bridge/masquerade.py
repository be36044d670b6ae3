"""Masquerading what pods send out of their network: one nftables rule per network and subnet, none per pod.

Owns the table `inet cni_bridge`. The rule names network and subnet in its comment, and that is how it is found again; it
stays when pods go and leaves with GC. Multicast is left alone, as in the reference plugin.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.bridge.names import shortened
from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink import nft_expressions as express
from cni_bridge.netlink import nftables
from cni_bridge.netlink.connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.plan import Network
    from cni_bridge.netlink.message import Message

TABLE = nftables.Table(nftables.INET, "cni_bridge")
CHAIN = "postrouting"
HOOK = nftables.Hook("nat", nftables.POSTROUTING_HOOK, nftables.SOURCE_NAT_PRIORITY)
MULTICAST = {4: (b"\xe0\0\0\0", 4), 16: (b"\xff" + bytes(15), 8)}
_LONGEST_NETWORK = 70  # with the longest subnet it stays below the 127 bytes of a comment


def _prefix(network: str) -> str:
    return f"net: {shortened(network, _LONGEST_NETWORK)}, from: "


def comment_of(network: str, subnet: Network) -> str:
    """Give the comment of the rule for a subnet of the network."""
    address, prefix = subnet
    return _prefix(network) + addresses.cidr_text(addresses.first_of(address, prefix), prefix)


def _rule(subnet: Network) -> bytes:
    address, prefix = addresses.first_of(*subnet), subnet[1]
    outside = express.to_network(address, prefix, equal=False) + express.to_network(*MULTICAST[len(address)], equal=False)
    return express.from_network(address, prefix) + outside + express.masquerade()


def ensure(network: str, subnets: list[Network]) -> None:
    """See to it that the subnets are masqueraded; when they are, this reads once and changes nothing. Raises NetlinkError."""
    with Connection(sockets.NETFILTER) as connection:
        if _missing(connection, network, subnets):
            nftables.change(connection, lambda: _messages(connection, network, subnets))


def _missing(connection: Connection, network: str, subnets: list[Network]) -> dict[str, Network]:
    wanted = {comment_of(network, subnet): subnet for subnet in subnets}
    there = {rule.comment for rule in nftables.rules(connection, TABLE, CHAIN)}
    return {comment: subnet for comment, subnet in wanted.items() if comment not in there}


def _messages(connection: Connection, network: str, subnets: list[Network]) -> list[Message]:
    missing = _missing(connection, network, subnets)
    if not missing:
        return []
    chain = connection.perform(TABLE.get_chain(CHAIN))[0]
    base = [] if chain else [TABLE.declare(), TABLE.declare_chain(CHAIN, HOOK)]
    return [*base, *[TABLE.append_rule(CHAIN, _rule(subnet), comment) for comment, subnet in missing.items()]]


def masqueraded(network: str) -> list[Network]:
    """List the subnets of the network that have a rule. Raises NetlinkError."""
    prefix = _prefix(network)
    with Connection(sockets.NETFILTER) as connection:
        comments = [rule.comment for rule in nftables.rules(connection, TABLE, CHAIN)]
    return [addresses.parse_cidr(comment.removeprefix(prefix)) for comment in comments if comment.startswith(prefix)]


def remove(network: str) -> None:
    """Remove the network's rules. Raises NetlinkError."""
    prefix = _prefix(network)

    def plan() -> list[Message]:
        there = nftables.rules(connection, TABLE, CHAIN)
        return [TABLE.delete_rule(rule) for rule in there if rule.comment.startswith(prefix)]

    with Connection(sockets.NETFILTER) as connection:
        nftables.change(connection, plan)
