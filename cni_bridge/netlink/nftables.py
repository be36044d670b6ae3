"""nftables over nfnetlink: tables, chains and rules as messages, transactions, reading back (linux/netfilter/nf_tables.h).

Knows nothing of what rules are for. Re-declaring what exists makes the kernel wait for 13 ms when the socket is closed:
callers read first and add what is missing. A transaction bound to a generation fails with ERESTART if another came between.
"""

from __future__ import annotations

import errno

from cni_bridge.fast import Struct
from cni_bridge.netlink import nft_expressions
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import APPEND, BE32, BE64, CREATE, NESTED, Message, NetlinkError, attribute, attributes, be32, string, text

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 16, 17
_GENERATION_OF_BATCH = 1  # NFNL_BATCH_GENID
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE = 0xA00, 0xA01, 0xA02
_NEW_CHAIN, _GET_CHAIN, _DELETE_CHAIN = 0xA03, 0xA04, 0xA05
_NEW_RULE, _GET_RULE, _DELETE_RULE, _GET_GENERATION = 0xA06, 0xA07, 0xA08, 0xA10
_HEADER = Struct("!BBH")  # nfgenmsg: family, version, resource

INET, NETDEV, BRIDGE, IPV4, IPV6 = 1, 5, 7, 2, 10  # NFPROTO_*
POSTROUTING_HOOK, INGRESS_HOOK = 4, 0
SOURCE_NAT_PRIORITY = 100
_TRIES = 20
_ABSENT = (errno.ENOENT,)


class Hook:
    """Where a base chain stands. kind: "nat" or "filter"; device: of a netdev chain alone."""

    __slots__ = ("device", "kind", "number", "priority")

    def __init__(self, kind: str, number: int, priority: int, device: str = "") -> None:
        self.kind = kind
        self.number = number
        self.priority = priority
        self.device = device

    def pack(self) -> bytes:
        """Give a chain's attributes for it; the policy is accept."""
        device = text(3, self.device) if self.device else b""
        hook = attribute(4 | NESTED, be32(1, self.number) + be32(2, self.priority & 0xFFFFFFFF) + device)
        return text(7, self.kind) + be32(5, 1) + hook


class Rule:
    """A rule as the kernel lists it; handle names it within its chain, expressions are its bytes."""

    __slots__ = ("chain", "comment", "expressions", "handle")

    def __init__(self, payload: bytes) -> None:
        found = attributes(payload, _HEADER.size)
        self.chain = string(found.get(2, b""))
        self.handle = int(BE64.unpack(found[3])[0])
        self.expressions = found.get(4, b"")
        self.comment = nft_expressions.read_comment(found.get(7, b""))


class Table:
    """One table by family and name: gives messages about it."""

    __slots__ = ("family", "name")

    def __init__(self, family: int, name: str) -> None:
        self.family = family
        self.name = name

    def _message(self, kind: int, flags: int, body: bytes, purpose: str, tolerated: tuple[int, ...] = ()) -> Message:
        head = _HEADER.pack(self.family, 0, 0) + text(1, self.name)
        return Message(kind, flags, head + body, f"{purpose} in nftables table {self.name}", tolerated)

    def declare(self) -> Message:
        """Add the table unless it is there."""
        return self._message(_NEW_TABLE, 0, be32(2, 0), "be")

    def get(self) -> Message:
        """Read the table; a missing one gives no answer."""
        return self._message(_GET_TABLE, 0, b"", "look", _ABSENT)

    def delete(self) -> Message:
        """Remove the table with all that is in it."""
        return self._message(_DELETE_TABLE, 0, b"", "delete all")

    def declare_chain(self, chain: str, hook: Hook | None = None) -> Message:
        """Add the chain unless it is there; with a hook it is a base chain."""
        return self._message(_NEW_CHAIN, CREATE, text(3, chain) + (hook.pack() if hook else b""), f"add chain {chain}")

    def get_chain(self, chain: str) -> Message:
        """Read one chain; a missing one gives no answer."""
        return self._message(_GET_CHAIN, 0, text(3, chain), f"read chain {chain}", _ABSENT)

    def dump_chains(self) -> Message:
        """List the chains of all tables of the family: see `chains`."""
        return Message(_GET_CHAIN, 0, _HEADER.pack(self.family, 0, 0), "list chains", _ABSENT)

    def chains(self, answers: list[bytes]) -> list[str]:
        """Read `dump_chains`: the names of this table's chains."""
        found = [attributes(payload, _HEADER.size) for payload in answers]
        return [string(chain[3]) for chain in found if string(chain.get(1, b"")) == self.name]

    def delete_chain(self, chain: str) -> Message:
        """Remove the chain and its rules; a missing one is an error (ENOENT)."""
        return self._message(_DELETE_CHAIN, 0, text(3, chain), f"delete chain {chain}")

    def flush_chain(self, chain: str) -> Message:
        """Remove the rules of a chain."""
        return self._message(_DELETE_RULE, 0, text(2, chain), f"flush chain {chain}")

    def append_rule(self, chain: str, expressions: bytes, comment: str = "") -> Message:
        """Add a rule at the end of a chain. comment: up to 127 bytes of it are kept."""
        noted = attribute(7, nft_expressions.comment(comment)) if comment else b""
        body = text(2, chain) + attribute(4 | NESTED, expressions) + noted
        return self._message(_NEW_RULE, CREATE | APPEND, body, f"add a rule to chain {chain}")

    def delete_rule(self, rule: Rule) -> Message:
        """Remove one rule by its handle."""
        body = text(2, rule.chain) + attribute(3, BE64.pack(rule.handle))
        return self._message(_DELETE_RULE, 0, body, f"delete a rule of chain {rule.chain}")

    def dump_rules(self, chain: str) -> Message:
        """List the rules of a chain: payloads for `Rule`; a missing table or chain has none."""
        return self._message(_GET_RULE, 0, text(2, chain), f"list the rules of chain {chain}", _ABSENT)


def rules(connection: Connection, table: Table, chain: str) -> list[Rule]:
    """Read the rules of one chain. Raises NetlinkError."""
    return [rule for rule in map(Rule, connection.dump(table.dump_rules(chain))) if rule.chain == chain]


def generation(connection: Connection) -> int:
    """Read the number of the rule set's last change."""
    answer = connection.perform(Message(_GET_GENERATION, 0, _HEADER.pack(0, 0, 0), "read nftables' generation"))
    return int(BE32.unpack(attributes(answer[0][0], _HEADER.size)[1])[0])


def commit(connection: Connection, messages: list[Message], seen: int | None = None) -> None:
    """Carry out all messages or none. seen: refuse (ERESTART) if the rule set's generation is another by now."""
    bound = be32(_GENERATION_OF_BATCH, seen) if seen is not None else b""
    frame = _HEADER.pack(0, 0, _SUBSYSTEM)
    begin = Message(_BATCH_BEGIN, 0, frame + bound, "begin an nftables transaction")
    connection.batch(begin, tuple(messages), Message(_BATCH_END, 0, frame, "end an nftables transaction"))


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def change(connection: Connection, plan: Callable[[], list[Message]]) -> None:
    """Read and change as one step: plan reads and gives the messages, and is asked again when others changed rules meanwhile.

    Nothing is sent when there is nothing to do. Raises NetlinkError.
    """
    for attempt in range(_TRIES):
        seen = generation(connection)
        messages = plan()
        if not messages:
            return
        try:
            commit(connection, messages, seen)
        except NetlinkError as error:
            if error.number != errno.ERESTART or attempt == _TRIES - 1:
                raise
        else:
            return
