"""What a redirect back end needs of the host, and what on the host stands in its way.

Owns the checks that look at the kernel, its version, capabilities, links and rules; what other programs' nftables
and iptables rules mean is foreign_rules.py's. Blocking; nothing is changed. Invariant: each finding says what was
found, why it matters and what to do; one that cannot be checked does not stop the others.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uproxy.core.model import Family
from uproxy.errors import RedirectError, UsageError
from uproxy.redirect import foreign_rules, policy_routes
from uproxy.redirect.foreign_rules import Finding
from uproxy.redirect.netlink import NETLINK_ROUTE, NetlinkError, NetlinkSocket
from uproxy.redirect.rtnetlink import Rule, links, rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from uproxy.core.ruleset import Marks
    from uproxy.log import Log
    from uproxy.redirect.nft_runner import Nft

# 5.9 is the first kernel that can reject in a prerouting chain.
_OLDEST_KERNEL: Final = (5, 9)
# The oldest nft that kube-proxy's nftables mode accepts.
_OLDEST_NFT: Final = (1, 0, 0)
_NET_ADMIN: Final = 12
_WHOLE_MARK: Final = 0xFFFFFFFF
_MARK_OWNERS: Final = {
    0x4000: "kube-proxy's masquerade mark",
    0x8000: "kubelet's drop mark",
    0x2000: "the portmap plugin's masquerade mark",
    0xFFFF0000: "Calico's marks",
}


def report(findings: Iterable[Finding], log: Log) -> None:
    """Log what does not stop us; raises UsageError with everything that does."""
    fatal = [finding for finding in findings if finding.is_fatal]
    if fatal:
        raise UsageError("; ".join(map(str, fatal)))
    for finding in findings:
        log.warning("host_finding", what=finding.what, why=finding.why, remedy=finding.remedy)


def of_nftables(nft: Nft, marks: Marks, beside: bool) -> tuple[Finding, ...]:  # noqa: FBT001 - passed on by position to a thread
    """Check the host for the nftables back end. beside: a kube-proxy is meant to run here as well."""
    needed = (*_kernel(os.uname().release), *_capability(), *_marks(marks), *_program(nft))
    if any(finding.is_fatal for finding in needed):
        return needed
    return (*needed, *_ipv6(), *_links(), *_clashing_rules(marks), *foreign_rules.find(nft, marks, beside=beside))


def of_routes() -> tuple[Finding, ...]:
    """Check the host for the routes back end."""
    return (*_capability(), *_ipv6(), *_links())


def _kernel(release: str) -> Iterator[Finding]:
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_KERNEL:
        yield Finding(
            f"kernel {release}",
            "the nftables back end needs kernel 5.9 or later, which can refuse before routing",
            "use --redirect routes",
            is_fatal=True,
        )


def _capability() -> Iterator[Finding]:
    status = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace")
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    if effective is None or not int(effective[1], 16) & 1 << _NET_ADMIN:
        yield Finding(
            "no capability CAP_NET_ADMIN",
            "rules and routes cannot be installed without it",
            "run uproxy as root, grant CAP_NET_ADMIN, or use --redirect none",
            is_fatal=True,
        )


def _program(nft: Nft) -> Iterator[Finding]:
    try:
        version = nft.version()
    except RedirectError as error:
        yield Finding("nft does not run", str(error), "install the package nftables, or use --redirect routes", is_fatal=True)
        return
    if version < _OLDEST_NFT:
        found = ".".join(map(str, version))
        remedy = "update the package nftables, or use --redirect routes"
        yield Finding(f"nft {found}", "nft 1.0.0 or later is needed", remedy, is_fatal=True)


def _marks(marks: Marks) -> Iterator[Finding]:
    for setting, mark in (("capture.deliverMark", marks.deliver), ("capture.sentMark", marks.sent)):
        if mark.bit_count() != 1 or mark > _WHOLE_MARK:
            yield Finding(f"{setting} {mark:#x}", "a mark must be exactly one bit of 32", "set one bit, 0x1000 for example", is_fatal=True)
        for bits, owner in _MARK_OWNERS.items():
            if mark & bits:
                yield Finding(f"{setting} {mark:#x}", f"the bit belongs to {owner}", f"choose another bit for {setting}")
    if marks.deliver == marks.sent:
        what = f"capture.deliverMark and capture.sentMark are both {marks.sent:#x}"
        yield Finding(what, "they tell two directions apart", "set two different bits", is_fatal=True)


def _ipv6() -> Iterator[Finding]:
    if Family.IPV6 not in policy_routes.families():
        yield Finding("IPv6 is off", "IPv6 service addresses are not served", "set net.ipv6.conf.lo.disable_ipv6 to 0 to have them")


def _links() -> Iterator[Finding]:
    try:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            found = {link.name: link for link in links(kernel)}
    except NetlinkError as error:
        yield Finding("links not checked", str(error), "see the reason")
        return
    if not found["lo"].flags & 1:
        yield Finding("the loopback device is down", "service addresses are delivered over it", "ip link set lo up", is_fatal=True)
    if "kube-ipvs0" in found:
        why = "an earlier kube-proxy in IPVS mode still holds service addresses there"
        yield Finding("device kube-ipvs0", why, "ipvsadm --clear; ip link delete kube-ipvs0")
    if "cilium_host" in found:
        why = "Cilium's datapath uses all bits of the packet mark: uproxy is not supported beside it"
        yield Finding("device cilium_host", why, "use Cilium's own service proxy, or another network plugin")


def _clashing_rules(marks: Marks) -> Iterator[Finding]:
    try:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            found = [rule for family in policy_routes.families() for rule in rules(kernel, family)]
    except NetlinkError as error:
        yield Finding("policy rules not checked", str(error), "see the reason")
        return
    for rule in found:
        if _clashes(rule, marks):
            what = f"ip -{rule.family} rule {rule.preference} looks at mark {rule.mark:#x}/{rule.mask:#x}"
            yield Finding(what, "it shares a bit with uproxy's marks", "choose other bits for capture.deliverMark and capture.sentMark")


def _clashes(rule: Rule, marks: Marks) -> bool:
    """Say whether a foreign rule depends on our bits; one that compares the whole mark looks for a value, not for bits."""
    is_ours = rule.protocol == policy_routes.PROTOCOL and rule.preference in policy_routes.PREFERENCES
    return not is_ours and rule.mask != _WHOLE_MARK and bool(rule.mask & (marks.deliver | marks.sent))
