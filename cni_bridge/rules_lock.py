"""One process at a time that reads and changes iptables' rules of a network namespace.

Owns nothing but the lock: flock(2) on the namespace's own file, which every process of the namespace finds, which
leaves nothing behind and which ends with its holder. iptables' own lock does not do: it lasts for one run of iptables.
Knows no rule.
"""

from __future__ import annotations

from cni_bridge.fast import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_NAMESPACE = "/proc/thread-self/ns/net"
SECONDS = 20
"""A turn is two runs of iptables, 10 ms; one of them may wait 10 s for iptables' own lock."""


class LockHeldError(Exception):
    """Another process did not let go in time."""


class RulesLock:
    """For a `with` block of a main thread. Raises LockHeldError."""

    __slots__ = ("_descriptor",)

    def __init__(self) -> None:
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = posix.open(_NAMESPACE, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            _acquire(self._descriptor)
        except BaseException:
            posix.close(self._descriptor)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        posix.close(self._descriptor)


def _acquire(descriptor: int) -> None:
    from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: PLC0415 - only who changes iptables' rules pays

    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        _wait(descriptor)


def _wait(descriptor: int) -> None:
    from cni_bridge import contention  # noqa: PLC0415 - as above

    try:
        contention.wait(descriptor, SECONDS)
    except contention.TimeIsUp:
        raise LockHeldError(f"another process has kept the lock on this namespace's iptables rules for more than {SECONDS} s") from None
