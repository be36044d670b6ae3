"""The kinds of network that are struck: between them they leave everything that the plugin can leave."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.faults.launched import Launched
    from tests.lab.namespaces import Namespace

V4, V6 = "10.61.0.0/24", "fd61::/64"
KINDS: Final[dict[str, Json]] = {
    "plain": {"isDefaultGateway": True, "ipMasq": True},
    "nftables, host prefix, MAC check": {
        "isDefaultGateway": True, "ipMasq": True, "ipMasqBackend": "nftables", "podPrefix": "host", "macspoofchk": True, "hairpinMode": True
    },
    "iptables": {"isDefaultGateway": True, "ipMasq": True, "ipMasqBackend": "iptables"},
}  # fmt: skip
KILLED: Final = -signal.SIGKILL


def steps_of(node: Launched, command: str, config: Json, pod: Namespace | None) -> int:
    """Count the steps of a request that nothing happens to."""
    node.run(command, config, pod).result()
    return node.steps
