"""The rules that accept what containers send and what answers them, worded as the reference plugin's.

Pure: chains in, lines for iptables-restore out. FORWARD leads to CNI-FORWARD before all else, and that first to a chain
for the administrator. Rules there name addresses, not containers: the chain CNI-FORWARD-OWNERS, to which nothing leads,
tells whose each address is, so that DEL needs no previous result and GC finds what is stale.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.iptables import quoted
from cni_bridge.ownership import network_identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_bridge.iptables import Chains
    from cni_bridge.ownership import Attachment

TABLE = "filter"
HOOK, ACCEPTING, OWNERS = "FORWARD", "CNI-FORWARD", "CNI-FORWARD-OWNERS"
_COMMENT_CHARACTERS = 255  # XT_MAX_COMMENT_LEN less the final zero
_LEADING = f'-m comment --comment "CNI firewall plugin rules" -j {ACCEPTING}'
_OWNER = "-m comment --comment "


def _whole(address: bytes) -> str:
    return addresses.cidr_text(address, addresses.bits(address))


def address_rules(address: bytes) -> list[str]:
    """Give an address's rules: answers to it are accepted, and everything from it."""
    whole = _whole(address)
    return [f"-d {whole} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", f"-s {whole} -j ACCEPT"]


def _leading_to_admin(admin_chain: str) -> str:
    return f'-m comment --comment "CNI firewall plugin admin overrides" -j {quoted(admin_chain)}'


def addition(attachment: Attachment, pods: list[bytes], admin_chain: str, there: Chains) -> list[str]:
    """Give the lines that add what is missing for the addresses, and make the attachment their owner."""
    lines = [f"-N {chain}" for chain in (ACCEPTING, quoted(admin_chain), OWNERS) if chain not in there]
    if _LEADING not in there.get(HOOK, ()):
        lines.append(f"-I {HOOK} 1 {_LEADING}")
    if _leading_to_admin(admin_chain) not in there.get(ACCEPTING, ()):
        lines.append(f"-I {ACCEPTING} 1 {_leading_to_admin(admin_chain)}")
    wanted = [rule for pod in pods for rule in address_rules(pod)]
    lines += [f"-A {ACCEPTING} {rule}" for rule in wanted if rule not in there.get(ACCEPTING, ())]
    return [*lines, *[line for pod in pods for line in _owning(attachment, pod, there)]]


def _owning(attachment: Attachment, pod: bytes, there: Chains) -> list[str]:
    start = f"-s {_whole(pod)} "
    mine = f"{start}{_OWNER}{quoted(attachment.note(_COMMENT_CHARACTERS))}"
    older = [rule for rule in there.get(OWNERS, ()) if rule.startswith(start)]
    if older == [mine]:
        return []
    return [*[f"-D {OWNERS} {rule}" for rule in older], f"-A {OWNERS} {mine}"]


def removal(attachment: Attachment, reported: Collection[bytes], there: Chains) -> list[str]:
    """Give the lines that remove an attachment's rules: of the addresses that it owns, and of the reported ones.

    reported: its addresses by the previous result, of the family. One that somebody else owns by now stays.
    """
    owned = there.get(OWNERS, ())
    mine = [rule for rule in owned if _identity(rule) == attachment.identity]
    others = {_address(rule) for rule in owned} - {_address(rule) for rule in mine}
    gone = {_address(rule) for rule in mine} | ({_whole(address) for address in reported} - others)
    return _without(gone, mine, there)


def stale_removal(network: str, valid: Collection[Attachment], there: Chains) -> list[str]:
    """Give the lines that remove the rules of a network's attachments but for the valid ones; what has no owner stays."""
    keep, start = {attachment.identity for attachment in valid}, network_identity(network)
    owned = there.get(OWNERS, ())
    stale = [rule for rule in owned if _identity(rule).startswith(start) and _identity(rule) not in keep]
    return _without({_address(rule) for rule in stale}, stale, there)


def _without(gone: set[str], owners: list[str], there: Chains) -> list[str]:
    accepting = {rule for whole in gone for rule in address_rules(addresses.parse_cidr(whole)[0])}
    lines = [f"-D {ACCEPTING} {rule}" for rule in there.get(ACCEPTING, ()) if rule in accepting]
    return [*lines, *[f"-D {OWNERS} {rule}" for rule in owners]]


def _address(owner: str) -> str:
    return owner.removeprefix("-s ").partition(" ")[0]


def _identity(owner: str) -> str:
    return owner.partition(_OWNER)[2].strip('"').partition(" ")[0]


def checks(pods: list[bytes], admin_chain: str) -> list[str]:
    """Give a line for each rule that must be there."""
    shared = [f"-C {HOOK} {_LEADING}", f"-C {ACCEPTING} {_leading_to_admin(admin_chain)}"]
    return [*shared, *[f"-C {ACCEPTING} {rule}" for pod in pods for rule in address_rules(pod)]]


def is_cut_off(there: Chains) -> bool:
    """Tell whether there are containers' rules to which nothing leads any more."""
    return any(rule.endswith("-j ACCEPT") for rule in there.get(ACCEPTING, ())) and _LEADING not in there.get(HOOK, ())
