"""Where a network's leases are: the part of the configuration that DEL and GC read, and all that they read.

Pure. Apart from the rest so that a release works with whatever else the configuration says by then.
"""

from __future__ import annotations

from cni_bridge.protocol import config as fields
from cni_bridge.protocol.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.config import Config

DATA_DIR = "/var/lib/cni/networks"
LOCK_SECONDS = 25
"""Below the minute or more that runtimes give a plugin, above what fifty ADDs in a row need."""


class Place:
    """Where a network's leases are and how to get at them: all that DEL and GC need."""

    __slots__ = ("folder", "lock_seconds", "resets_at_boot")

    def __init__(self, config: Config) -> None:
        ipam = ipam_section(config)
        self.folder = f"{fields.text(ipam, 'dataDir', 'ipam.') or DATA_DIR}/{fields.name_of(config)}"
        self.lock_seconds = fields.integer(ipam, "lockTimeoutSeconds", "ipam.", default=LOCK_SECONDS)
        self.resets_at_boot = fields.flag(ipam, "resetAtBoot", "ipam.")
        if self.lock_seconds < 1:
            raise CniError(INVALID_CONFIG, f'"ipam.lockTimeoutSeconds" is "{self.lock_seconds}": 1 or more is right')
        if "\0" in self.folder:
            raise CniError(INVALID_CONFIG, f'"ipam.dataDir" is "{self.folder}": a path holds no NUL')


def ipam_section(config: Config) -> Config:
    """Give the "ipam" section. Raises CniError (7) when there is none."""
    if fields.field(config, "ipam") is None:
        raise CniError(INVALID_CONFIG, "IPAM config missing 'ipam' key")
    return fields.section(config, "ipam")
