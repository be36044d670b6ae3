"""The nftables back end's rules as they are in the kernel: found by their comments, removed in one transaction.

Owns reading and removing, over nfnetlink: 0.1 ms where nft takes 5. What may be removed is decided from the rules alone.
"""

from __future__ import annotations

from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink import nftables
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import attribute_list, attributes, string
from cni_bridge.ownership import identity_of, network_identity
from cni_bridge.portmap import nft_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cni_bridge.netlink.message import Message
    from cni_bridge.netlink.nftables import Rule
    from cni_bridge.ownership import Attachment
    from cni_bridge.portmap.config import Mapping

    Choice = Callable[[list[Rule]], list[Rule]]

TABLES = {4: nftables.Table(nftables.IPV4, nft_rules.TABLE), 16: nftables.Table(nftables.IPV6, nft_rules.TABLE)}
_CHAINS = (nft_rules.HOSTPORTS, nft_rules.OLD_HOSTPORTS, nft_rules.MASQUERADING, nft_rules.OWNERS)
_OPERAND = {"cmp": 3, "immediate": 2}  # NFTA_CMP_DATA, NFTA_IMMEDIATE_DATA
_VALUE, _VERDICT, _CHAIN = 1, 2, 2  # NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN


def operands(rule: Rule) -> list[bytes]:
    """Give what a rule compares with and what it loads: addresses, ports, protocols as they stand in packets."""
    return [data[_VALUE] for data in _data(rule) if _VALUE in data]


def targets(rule: Rule) -> list[str]:
    """Give the chains to which a rule jumps."""
    verdicts = [attributes(data[_VERDICT]) for data in _data(rule) if _VERDICT in data]
    return [string(verdict[_CHAIN]) for verdict in verdicts if _CHAIN in verdict]


def _data(rule: Rule) -> list[dict[int, bytes]]:
    found = []
    for _, element in attribute_list(rule.expressions):
        expression = attributes(element)
        operand = _OPERAND.get(string(expression.get(1, b"")))
        if operand is not None:
            found.append(attributes(attributes(expression.get(2, b"")).get(operand, b"")))
    return found


def address_of(rule: Rule, size: int) -> bytes:
    """Give the last address that a rule mentions, which is the container's; empty without one.

    nft compares source and destination as one operand of twice the size where a rule names both.
    """
    found = [operand for operand in operands(rule) if len(operand) in {size, 2 * size}]
    return found[-1][-size:] if found else b""


def rules_of(attachment: Attachment, reported: Collection[bytes], size: int) -> Choice:
    """Choose an attachment's rules: by its container's ID and an address that is its own, by its identity.

    reported: its addresses by the previous result. Where neither that nor the owners' chain tells one, the ID is enough:
    the reference plugin added the rules.
    """
    comment = nft_rules.comment_of(attachment.container_id)

    def choose(there: list[Rule]) -> list[Rule]:
        owned = [rule for rule in there if rule.chain == nft_rules.OWNERS and identity_of(rule.comment) == attachment.identity]
        known = {address_of(rule, size) for rule in owned} | {address for address in reported if len(address) == size}
        named = [rule for rule in there if rule.chain != nft_rules.OWNERS and rule.comment == comment]
        return [*owned, *[rule for rule in named if not known or address_of(rule, size) in known]]

    return choose


def stale_rules(network: str, valid: Collection[Attachment], size: int) -> Choice:
    """Choose the rules of a network's attachments but for the valid ones; what has no owner is left alone."""
    keep = {attachment.identity for attachment in valid}
    comments = {nft_rules.comment_of(attachment.container_id) for attachment in valid}
    start = network_identity(network)

    def choose(there: list[Rule]) -> list[Rule]:
        owners = [rule for rule in there if rule.chain == nft_rules.OWNERS]
        stale = [rule for rule in owners if rule.comment.startswith(start) and identity_of(rule.comment) not in keep]
        others = {address_of(rule, size) for rule in owners if not rule.comment.startswith(start)}
        gone = {address_of(rule, size) for rule in stale} - others
        named = [rule for rule in there if rule.chain != nft_rules.OWNERS and rule.comment not in comments]
        return [*stale, *[rule for rule in named if address_of(rule, size) in gone]]

    return choose


def remove(size: int, choose: Choice) -> set[bytes]:
    """Remove the chosen rules of a family; give the addresses to which they led. Raises NetlinkError."""
    table = TABLES[size]
    gone: set[bytes] = set()

    def plan() -> list[Message]:
        chosen = choose([rule for chain in _CHAINS for rule in nftables.rules(connection, table, chain)])
        gone.clear()
        gone.update(address_of(rule, size) for rule in chosen)
        return [table.delete_rule(rule) for rule in chosen]

    with Connection(sockets.NETFILTER) as connection:
        if connection.perform(table.get())[0]:
            nftables.change(connection, plan)
    return gone - {b""}


def has_iptables_chain(family: int, table: str, chain: str) -> bool:
    """Tell without a process whether iptables, in its nftables form, has a chain. Raises NetlinkError."""
    with Connection(sockets.NETFILTER) as connection:
        return bool(connection.perform(nftables.Table(family, table).get_chain(chain))[0])


def leads(connection: Connection, size: int, chain: str, target: str) -> bool:
    """Tell whether a chain has a rule that jumps to another one."""
    return any(target in targets(rule) for rule in nftables.rules(connection, TABLES[size], chain))


def forwards(rule: Rule, mapping: Mapping, address: bytes) -> bool:
    """Tell whether a rule leads the mapping's port, and the mapping's address if it has one, to the container's port."""
    wanted = [address, mapping.host_port.to_bytes(2, "big"), mapping.container_port.to_bytes(2, "big"), mapping.host_ip]
    there = operands(rule)
    return all(any(one in operand for operand in there) for one in wanted)
