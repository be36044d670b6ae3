"""The iptables back end: what `iptables_rules` decides, carried out, each family in one transaction.

Owns which family is asked and what becomes of iptables' failures.
"""

from __future__ import annotations

from cni_bridge import iptables
from cni_bridge.iptables import IptablesError
from cni_bridge.portmap import iptables_rules as rules
from cni_bridge.protocol.errors import NOT_AS_REPORTED, UNAVAILABLE, UNAVAILABLE_AND_IMPAIRED, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_bridge.iptables import Chains, Family
    from cni_bridge.ownership import Attachment
    from cni_bridge.portmap.plan import Forwarding

_FAMILIES = {family.size: family for family in iptables.FAMILIES}


def is_usable() -> bool:
    """Tell whether iptables is there and works."""
    try:
        iptables.read(iptables.IPV4, rules.TABLE)
    except IptablesError:
        return False
    return True


def add(forwarding: Forwarding) -> None:
    """Add a container's rules, in place of those that it had. Raises IptablesError, LockHeldError."""
    iptables.change(_FAMILIES[len(forwarding.address)], rules.TABLE, lambda there: rules.addition(forwarding, there))


def remove(attachment: Attachment) -> set[bytes]:
    """Remove a container's rules in both families; give the addresses to which they led.

    Raises IptablesError when everything was tried, or when neither family can be read.
    """
    chain = rules.chain_name(attachment.network, attachment.container_id)
    gone: set[bytes] = set()

    def plan(_family: Family, there: Chains) -> list[str]:
        gone.update(rules.destinations(chain, there))
        return rules.removal(attachment.network, attachment.container_id, there)

    iptables.change_both(rules.TABLE, plan)
    return gone


def collect(network: str, valid: Collection[Attachment]) -> set[bytes]:
    """Remove the rules of a network's containers but for the valid ones; as `remove`."""
    containers = {attachment.container_id for attachment in valid}
    gone: set[bytes] = set()

    def plan(_family: Family, there: Chains) -> list[str]:
        lines = rules.stale_removal(network, containers, there)
        for line in lines:
            if line.startswith("-X "):
                gone.update(rules.destinations(line.removeprefix("-X "), there))
        return lines

    iptables.change_both(rules.TABLE, plan)
    return gone


def check(forwarding: Forwarding) -> None:
    """Raise CniError (104) with the first rule that is missing, IptablesError when that cannot be told."""
    missing = iptables.first_missing(_FAMILIES[len(forwarding.address)], rules.TABLE, rules.checks(forwarding))
    if missing:
        raise CniError(NOT_AS_REPORTED, "a rule of the port mappings is missing", missing.replace("-C", "-A", 1))


def status() -> None:
    """Raise CniError: 50 when iptables does not work, 51 when nothing leads to the ports that there are."""
    try:
        there = iptables.read(iptables.IPV4, rules.TABLE)
    except IptablesError as error:
        raise CniError(UNAVAILABLE, f"port mappings need iptables: {error}") from None
    if rules.is_cut_off(there) or _is_cut_off(iptables.IPV6):
        raise CniError(UNAVAILABLE_AND_IMPAIRED, f"no rule leads to {rules.DNAT} any more: the ports of containers are unreachable")


def _is_cut_off(family: Family) -> bool:
    try:
        return rules.is_cut_off(iptables.read(family, rules.TABLE))
    except IptablesError:
        return False
