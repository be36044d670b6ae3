"""Dropping what a pod sends from another MAC address than its own.

Owns a chain per host veth in the nftables table `netdev cni_bridge`, at the veth's ingress: only its own frames pass it, so
the cost does not grow with the number of pods. The chain has the veth's name, its rule names the attachment.
"""

from __future__ import annotations

import errno

from cni_bridge.bridge.names import shortened
from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink import nft_expressions as express
from cni_bridge.netlink import nftables
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.names import Attachment
    from cni_bridge.netlink.message import Message

TABLE = nftables.Table(nftables.NETDEV, "cni_bridge")
_LONGEST_COMMENT = 127


def comment_of(attachment: Attachment) -> str:
    """Give the rule's comment, worded as the reference plugin's."""
    return shortened(f"macspoofchk-{attachment.container_id}-{attachment.ifname}", _LONGEST_COMMENT)


def guard(attachment: Attachment, veth: str, mac: bytes) -> None:
    """Drop frames that come from the veth with another source than mac. Raises NetlinkError."""
    rule = express.not_from_mac(mac) + express.verdict(express.DROP)
    with Connection(sockets.NETFILTER) as connection:

        def plan() -> list[Message]:
            table = connection.perform(TABLE.get())[0]
            stale = [TABLE.delete_chain(veth)] if table and connection.perform(TABLE.get_chain(veth))[0] else []
            chain = TABLE.declare_chain(veth, nftables.Hook("filter", nftables.INGRESS_HOOK, 0, veth))
            return [*([] if table else [TABLE.declare()]), *stale, chain, TABLE.append_rule(veth, rule, comment_of(attachment))]

        nftables.change(connection, plan)


def release(veths: list[str]) -> None:
    """Remove the chains of veths, there or gone. Raises NetlinkError."""
    with Connection(sockets.NETFILTER) as connection:
        for veth in veths:
            if connection.perform(TABLE.get_chain(veth))[0]:
                _delete(connection, veth)


def _delete(connection: Connection, veth: str) -> None:
    try:
        nftables.commit(connection, [TABLE.delete_chain(veth)])
    except NetlinkError as error:
        if error.number != errno.ENOENT:  # the kernel was quicker: the chain went with its device
            raise


def is_guarded(attachment: Attachment, veth: str) -> bool:
    """Tell whether the attachment's rule is there. Raises NetlinkError."""
    with Connection(sockets.NETFILTER) as connection:
        return any(rule.comment == comment_of(attachment) for rule in nftables.rules(connection, TABLE, veth))


def chains() -> list[str]:
    """List the chains, which are the names of veths."""
    with Connection(sockets.NETFILTER) as connection:
        return TABLE.chains(connection.dump(TABLE.dump_chains()))
