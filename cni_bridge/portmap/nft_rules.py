"""The rules of the nftables back end, under the reference plugin's names (its release 1.9), as a script for nft.

Pure. A table per family, `cni_hostport`; rules in `hostports` and `masquerading` carry the container's ID as their comment,
by which either plugin finds them. That does not say in which network: the chain `cni_bridge_owners`, to which nothing leads,
does, with one rule per attachment. A network's conditions stand in its own rules; the reference plugin writes them into the
shared ones, where the last network's hold for all.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.portmap.plan import address_and_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.portmap.config import Mapping
    from cni_bridge.portmap.plan import Forwarding

TABLE = "cni_hostport"
HOSTPORTS, OLD_HOSTPORTS, ALL, MASQUERADING = "hostports", "hostip_hostports", "hostports_all", "masquerading"
HOOKS = ("prerouting", "output")
OWNERS = "cni_bridge_owners"
COMMENT_CHARACTERS = 127  # NFTNL_UDATA_COMMENT_MAXLEN less the final zero
_FAMILIES = {4: "ip", 16: "ip6"}


def comment_of(container_id: str) -> str:
    """Give the comment of a container's rules."""
    return container_id[:COMMENT_CHARACTERS]


def addition(forwarding: Forwarding) -> str:
    """Give the script that adds what all share, whole and anew, and the container's rules: one transaction."""
    table = f"{_FAMILIES[len(forwarding.address)]} {TABLE}"
    shared = [line.format(table=table) for line in (*_SHARED, *(_SHARED_SNAT if forwarding.settings.snat else ()))]
    own = [f"add rule {table} {chain} {rule}" for chain, rule in _own_rules(forwarding)]
    return "\n".join([*shared, *own, ""])


_SHARED = (
    "add table {table}",
    f"add chain {{table}} {HOSTPORTS}",
    f"add chain {{table}} {OLD_HOSTPORTS}",
    f"add chain {{table}} {OWNERS}",
    f"add chain {{table}} {ALL}",
    f"flush chain {{table}} {ALL}",
    f"add rule {{table}} {ALL} jump {OLD_HOSTPORTS}",
    f"add rule {{table}} {ALL} jump {HOSTPORTS}",
    *(
        line
        for hook in HOOKS
        for line in (
            f"add chain {{table}} {hook} {{{{ type nat hook {hook} priority -100 ; }}}}",
            f"flush chain {{table}} {hook}",
            f"add rule {{table}} {hook} fib daddr type local jump {ALL}",
        )
    ),
)
_SHARED_SNAT = (f"add chain {{table}} {MASQUERADING} {{{{ type nat hook postrouting priority 100 ; }}}}",)


def _own_rules(forwarding: Forwarding) -> list[tuple[str, str]]:
    comment = f'comment "{comment_of(forwarding.attachment.container_id)}"'
    rules = [(HOSTPORTS, f"{_destination(forwarding, mapping)} {comment}") for mapping in forwarding.mappings]
    rules += [(MASQUERADING, f"{match} masquerade {comment}") for match in _masqueraded(forwarding)]
    note = forwarding.attachment.note(COMMENT_CHARACTERS)
    return [*rules, (OWNERS, f'{_match(forwarding.address, "daddr")} comment "{note}"')]


def _match(address: bytes, side: str) -> str:
    return f"{_FAMILIES[len(address)]} {side} {addresses.text(address)}"


def _destination(forwarding: Forwarding, mapping: Mapping) -> str:
    words = list(forwarding.conditions)
    if mapping.host_ip:
        words.append(_match(mapping.host_ip, "daddr"))
    words.append(f"{mapping.protocol} dport {mapping.host_port}")
    return " ".join([*words, f"dnat to {address_and_port(forwarding.address, mapping.container_port)}"])


def _masqueraded(forwarding: Forwarding) -> list[str]:
    """Match what could not be answered otherwise: the container's own connections to its port, and the host's loopback's."""
    if not forwarding.settings.snat:
        return []
    to_pod = _match(forwarding.address, "daddr")
    own = f"{_match(forwarding.address, 'saddr')} {to_pod}"
    return [own, f"ip saddr 127.0.0.1 {to_pod}"] if len(forwarding.address) == 4 else [own]  # noqa: PLR2004 - the bytes of an IPv4 address


def own_rule_count(forwarding: Forwarding) -> int:
    """Give how many rules masquerade for the container."""
    return len(_masqueraded(forwarding))
