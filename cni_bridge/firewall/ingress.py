"""Ingress policies: bridges that do not reach each other, and containers of one bridge that do not either.

Pure: as `rules`. A packet from a bridge to elsewhere passes stage 1, then is dropped in stage 2 if it goes to a bridge with a
policy. The rules are a bridge's, not a container's, and stay when containers go, as the reference plugin's do.
"""

from __future__ import annotations

from cni_bridge.firewall.config import ISOLATED
from cni_bridge.iptables import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.iptables import Chains

_HOOK = "FORWARD"
_STAGE_1, _STAGE_2 = "CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2"


def _commented(policy: str) -> str:
    return f'-m comment --comment "CNI firewall plugin rules (ingressPolicy: {policy})"'


def _rules(bridge: str, policy: str) -> list[tuple[str, str, bool]]:
    """Give (chain, rule, whether it comes first) in the order in which they are added."""
    name, shared, own = quoted(bridge), _commented("same-bridge|isolated"), _commented(policy)
    dropping = [(_STAGE_1, f"-i {name} -o {name} {own} -j DROP", True)] if policy == ISOLATED else []
    return [
        (_HOOK, f"{shared} -j {_STAGE_1}", True),
        (_STAGE_1, f"-i {name} ! -o {name} {own} -j {_STAGE_2}", True),
        *dropping,
        (_STAGE_1, f"{shared} -j RETURN", False),
        (_STAGE_2, f"-o {name} {shared} -j DROP", True),
        (_STAGE_2, f"{shared} -j RETURN", False),
    ]


def addition(bridge: str, policy: str, there: Chains) -> list[str]:
    """Give the lines that add what is missing of a bridge's policy (SAME_BRIDGE or ISOLATED)."""
    lines = [f"-N {chain}" for chain in (_STAGE_1, _STAGE_2) if chain not in there]
    for chain, rule, comes_first in _rules(bridge, policy):
        if rule not in there.get(chain, ()):
            lines.append(f"-I {chain} 1 {rule}" if comes_first else f"-A {chain} {rule}")
    return lines


def checks(bridge: str, policy: str) -> list[str]:
    """Give a line for each rule that must be there."""
    return [f"-C {chain} {rule}" for chain, rule, _ in _rules(bridge, policy)]
