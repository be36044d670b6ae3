"""Every step with which a plugin changes something, counted, and one of them struck by a fate.

A step is one datagram to netlink, one change of a file or folder, one program started. Requests that only read are steps if
that is asked for: to fail they may, but to die before one is to die before the change after it. Knows where the plugins take
these calls from; changes nothing on its own.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from cni_bridge import spawned, sysctl
from cni_bridge.bridge import iptables
from cni_bridge.fast import socket
from cni_bridge.host_local import lock, store
from cni_bridge.netlink import connection, message

if TYPE_CHECKING:
    from collections.abc import Callable

FATES: Final = ("killed", "refused", "unanswered")
"""Of the step: the process dies in its place; it fails and does nothing; it is done, and fails all the same."""
_READING: Final = {18, 22, 26, 0xA01, 0xA04, 0xA07, 0xA10}
"""RTM_GETLINK, GETADDR and GETROUTE (linux/rtnetlink.h), and nftables' GETTABLE, GETCHAIN, GETRULE and GETGEN."""
_CALLS: Final = ("mkdir", "open", "posix_spawn", "rename", "unlink", "write")


class Steps:
    """Counts them in `taken`, which other processes may share, and strikes the one of that number."""

    def __init__(self, taken: memoryview, fate: str, number: int, *, counts_reads: bool) -> None:
        self.counts_reads = counts_reads
        self._taken = taken
        self._fate = fate
        self._number = number

    def take(self, act: Callable[[], Any], failure: int, half: Callable[[], object] | None = None) -> Any:  # noqa: ANN401 - whatever the step gives
        """Do a step, unless it is its turn. failure: the errno that it fails with; half: what a dying process still got done."""
        number, self._taken[0] = self._taken[0], self._taken[0] + 1
        if self._fate and number == self._number:
            if self._fate == "killed":
                if half is not None:
                    half()
                os.kill(os.getpid(), signal.SIGKILL)
            if self._fate == "unanswered":
                act()
            raise OSError(failure, os.strerror(failure))
        return act()


class _Posix:
    """Stands where a module expects `posix`."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has under that name
        call = getattr(os, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - as `call` has it
            if name == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **keywords)
            half = (lambda: call(arguments[0], arguments[1][: len(arguments[1]) // 2])) if name == "write" else None
            return self._steps.take(lambda: call(*arguments, **keywords), errno.ENOSPC, half)

        return counted if name in _CALLS else call


def count(steps: Steps) -> None:
    """Put the counting calls under the plugins' modules, in this process for good."""

    class Socket(socket):
        def send(self, data: Any, flags: int = 0, /) -> int:  # noqa: ANN401 - a buffer
            if not steps.counts_reads and {kind for kind, *_ in message.split(data)} <= _READING:
                return super().send(data, flags)
            return int(steps.take(lambda: super(Socket, self).send(data, flags), errno.ENOBUFS))

    def run(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - as subprocess.run has it
        return steps.take(lambda: subprocess.run(*arguments, **keywords), errno.EAGAIN)  # noqa: PLW1510 - the plugin says

    for module, name, value in (
        (connection, "socket", Socket),
        (iptables, "subprocess", SimpleNamespace(run=run)),
        (lock, "posix", _Posix(steps)),
        (spawned, "posix", _Posix(steps)),
        (store, "posix", _Posix(steps)),
        (sysctl, "posix", _Posix(steps)),
    ):
        setattr(module, name, value)
