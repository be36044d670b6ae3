"""Removing what forwards ports: a container's rules for DEL, stale ones for GC, and the flows that they led astray.

Owns where rules are looked for; every part runs, whatever the others raise.
"""

from __future__ import annotations

from cni_bridge import addresses, iptables
from cni_bridge.portmap import conntrack, iptables_backend, iptables_rules, nft_backend, nft_state
from cni_bridge.portmap.config import NFTABLES, Settings, has_mappings
from cni_bridge.protocol.errors import CniError
from cni_bridge.rollback import Rollback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.ownership import Attachment
    from cni_bridge.protocol.skeleton import Request


def remove(request: Request, settings: Settings, attachment: Attachment) -> list[str]:
    """Remove an attachment's rules wherever they may be; give what failed.

    iptables is asked when there were ports for it. Without ports, and whatever the configuration says by now, the kernel
    is asked, which knows the rules of today's iptables; those of iptables-legacy it does not tell.
    """
    steps = Rollback()
    gone: set[bytes] = set()
    steps.add("nftables", lambda: gone.update(nft_backend.remove(attachment, _reported(request))))
    if _may_have_used_iptables(request, settings) or _has_iptables_chain(attachment):
        steps.add("iptables", lambda: gone.update(iptables_backend.remove(attachment)))
    return _finish(steps, gone)


def collect(settings: Settings, valid: list[Attachment]) -> list[str]:
    """Remove the rules of the network's containers that are none of the valid attachments'; give what failed."""
    steps = Rollback()
    gone: set[bytes] = set()
    steps.add("nftables", lambda: gone.update(nft_backend.collect(settings.network, valid)))
    if settings.backend != NFTABLES and iptables_backend.is_usable():
        steps.add("iptables", lambda: gone.update(iptables_backend.collect(settings.network, valid)))
    return _finish(steps, gone)


def _finish(steps: Rollback, gone: set[bytes]) -> list[str]:
    """Forget flows to the containers after the rules went, so that a client's next packet is not sent after them."""
    failures = steps.run()
    for pod in sorted(gone):
        conntrack.forget_or_note(conntrack.to_pod(pod))
    return failures


def _may_have_used_iptables(request: Request, settings: Settings) -> bool:
    return has_mappings(request) and settings.backend != NFTABLES and (bool(settings.backend) or iptables.is_there())


def _has_iptables_chain(attachment: Attachment) -> bool:
    chain = iptables_rules.chain_name(attachment.network, attachment.container_id)
    return any(nft_state.has_iptables_chain(family.netlink, iptables_rules.TABLE, chain) for family in iptables.FAMILIES)


def _reported(request: Request) -> set[bytes]:
    """Give the addresses of the previous result; one that cannot be read is no reason to keep anything."""
    try:
        result = request.prev_result
    except CniError:
        return set()
    return {addresses.parse_cidr(ip["address"])[0] for ip in result["ips"]} if result else set()
