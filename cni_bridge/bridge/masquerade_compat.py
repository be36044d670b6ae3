"""Masquerading as the reference plugin does it: rules per pod, under its names, so that either plugin removes the other's.

Owns the table `inet cni_plugins_masquerade` (its nftables back end) and the chains `CNI-<hash>` of the nat tables (its
iptables back end). All is read and removed over nfnetlink; only adding to iptables executes iptables, which must be able to
read its own rules. iptables-legacy is served where iptables itself is asked for, not by the removal over nfnetlink.
"""

from __future__ import annotations

import errno

from cni_bridge.bridge import masquerade
from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink import nft_expressions as express
from cni_bridge.netlink import nftables
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.names import Attachment
    from cni_bridge.bridge.plan import Network
    from cni_bridge.netlink.message import Message

TABLE = nftables.Table(nftables.INET, "cni_plugins_masquerade")
CHECKS, POSTROUTING = "masq_checks", "postrouting"
_IPTABLES = tuple(nftables.Table(family, "nat") for family in (nftables.IPV4, nftables.IPV6))
_IPTABLES_HOOK = "POSTROUTING"
_LONGEST_COMMENT = 127


def _sha512(text: str) -> str:
    """Hash without hashlib, which loads OpenSSL."""
    try:
        from _sha512 import sha512  # type: ignore[import-not-found]  # noqa: PLC0415 - up to Python 3.11, and not in typeshed; only who uses these rules pays
    except ImportError:
        from hashlib import sha512  # noqa: PLC0415 - as above
    return str(sha512(text.encode()).hexdigest())


def instance(attachment: Attachment) -> str:
    """Give what the comments of an attachment's nftables rules begin with."""
    one = _sha512(f"{attachment.ifname}:{attachment.container_id}")[:16]
    return f"{_sha512(attachment.network)[:16]}-{one}"


def comment_of(attachment: Attachment) -> str:
    """Give the comment of an attachment's nftables rules."""
    words = f"{instance(attachment)}, net: {attachment.network}, if: {attachment.ifname}, id: {attachment.container_id}"
    return words[:_LONGEST_COMMENT]


def iptables_chain(attachment: Attachment) -> str:
    """Give the name of a container's iptables chain; two interfaces of one container in one network share it."""
    return f"CNI-{_sha512(attachment.network + attachment.container_id)[:24]}"


def add(attachment: Attachment, networks: list[Network]) -> None:
    """Masquerade each address, given with its subnet's prefix length, and replace what the attachment had. Raises NetlinkError."""
    with Connection(sockets.NETFILTER) as connection:
        nftables.change(connection, lambda: _additions(connection, attachment, networks))


def _additions(connection: Connection, attachment: Attachment, networks: list[Network]) -> list[Message]:
    base = [] if connection.perform(TABLE.get_chain(POSTROUTING))[0] else _base()
    return [*base, *_removals(connection, attachment), *[_addition(attachment, network) for network in networks]]


def _addition(attachment: Attachment, network: Network) -> Message:
    address, prefix = network
    outside = express.to_network(address, prefix, equal=False)
    expressions = express.from_network(address, len(address) * 8) + outside + express.masquerade()
    return TABLE.append_rule(CHECKS, expressions, comment_of(attachment))


def _base() -> list[Message]:
    returning = [
        express.of_family(network) + express.to_network(network, prefix, equal=True) + express.verdict(express.RETURN)
        for network, prefix in masquerade.MULTICAST.values()
    ]
    rules = [*returning, express.verdict(express.GOTO, CHECKS)]
    chains = [TABLE.declare(), TABLE.declare_chain(CHECKS), TABLE.declare_chain(POSTROUTING, masquerade.HOOK)]
    return [*chains, *[TABLE.append_rule(POSTROUTING, rule) for rule in rules]]


def _removals(connection: Connection, attachment: Attachment) -> list[Message]:
    there = nftables.rules(connection, TABLE, CHECKS)
    mine = instance(attachment) if there else ""
    return [TABLE.delete_rule(rule) for rule in there if rule.comment.startswith(mine)]


def is_added(attachment: Attachment, count: int) -> bool:
    """Tell whether the attachment has so many rules. Raises NetlinkError."""
    with Connection(sockets.NETFILTER) as connection:
        return len(_removals(connection, attachment)) == count


def remove(attachment: Attachment) -> None:
    """Remove an attachment's rules of either back end, whoever added them. Raises NetlinkError."""
    with Connection(sockets.NETFILTER) as connection:
        if nftables.rules(connection, TABLE, CHECKS):
            nftables.change(connection, lambda: _removals(connection, attachment))
        for table in _IPTABLES:
            if connection.perform(table.get_chain(_IPTABLES_HOOK))[0]:
                _remove_iptables(connection, table, iptables_chain(attachment))


def remove_all_but(network: str, keep: set[str]) -> None:
    """Remove the nftables rules of a network that begin with none of the instances to keep. Raises NetlinkError."""
    mine = _sha512(network)[:16]

    def plan() -> list[Message]:
        there = nftables.rules(connection, TABLE, CHECKS)
        width = len(mine) * 2 + 1
        return [TABLE.delete_rule(rule) for rule in there if rule.comment.startswith(f"{mine}-") and rule.comment[:width] not in keep]

    with Connection(sockets.NETFILTER) as connection:
        nftables.change(connection, plan)


def _remove_iptables(connection: Connection, table: nftables.Table, chain: str) -> None:
    """Remove the chain and the rules that lead to it: their only mention of its name is the verdict."""
    name = chain.encode() + b"\0"

    def plan() -> list[Message]:
        if not connection.perform(table.get_chain(chain))[0]:
            return []
        payloads = connection.dump(table.dump_rules(_IPTABLES_HOOK))
        jumps = [nftables.Rule(payload) for payload in payloads if name in payload]
        return [*[table.delete_rule(rule) for rule in jumps if rule.chain == _IPTABLES_HOOK], table.delete_chain(chain)]

    try:
        nftables.change(connection, plan)
    except NetlinkError as error:
        if error.number != errno.ENOENT:
            raise


def add_iptables(attachment: Attachment, networks: list[Network]) -> None:
    """Masquerade each address with iptables, in one run per family. Raises OSError with what iptables said."""
    from cni_bridge.bridge import iptables  # noqa: PLC0415 - starts processes: only who asks for iptables pays

    iptables.masquerade(attachment, iptables_chain(attachment), networks)
