"""Leases that outlived their containers: those of an earlier boot of this machine.

Owns the decision; used only where `resetAtBoot` asks for it, for a runtime may restart containers with the addresses
they had. The boot's ID tells that there was a reboot; a lease's change time tells whether it is older, because the
reference implementation may have written new ones since. A lease from the future is old: the clock of a machine
without a battery starts anew.
"""

from __future__ import annotations

import time

from cni_bridge.fast import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.host_local.store import Store

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Boot:
    """One run of the kernel: its ID, and the clock's time now and at its beginning, in seconds."""

    __slots__ = ("id", "now", "started")

    def __init__(self, boot_id: str, started: float, now: float) -> None:
        self.id = boot_id
        self.started = started
        self.now = now


def this_boot() -> Boot:
    """Ask the kernel. Raises OSError."""
    now = time.time()
    return Boot(_boot_id(), now - time.clock_gettime(time.CLOCK_BOOTTIME), now)


def release_what_a_reboot_left(store: Store, boot: Boot) -> None:
    """Release the leases of earlier boots, once per boot. A store without a remembered boot keeps its leases. Raises OSError."""
    remembered = store.boot_id()
    if remembered == boot.id:
        return
    for address in store.leases() if remembered else ():
        if not boot.started <= store.changed_at(address) <= boot.now:
            store.release(address)
    store.remember_boot(boot.id)


def _boot_id() -> str:
    descriptor = posix.open(_BOOT_ID, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(descriptor, 64).decode("ascii").strip()
    finally:
        posix.close(descriptor)
