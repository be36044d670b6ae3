"""Telling systemd how far this process is: ready, stopping, alive.

Owns the notify protocol (sd_notify(3), systemd.service(5)): datagrams to the socket that the environment names. Knows
nothing of what makes the process ready. Invariant: never raises, never blocks; without the environment it does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

WATCHDOG_SHARE: Final = 3
"""The watchdog is fed so many times per its interval: systemd advises two, one more forgives a datagram that comes late."""
LONGEST_PAUSE: Final = 3600.0
"""Seconds between two signs of life at most: longer timers are beyond what every event loop can take."""
RETRY: Final = 0.1
"""Seconds until what systemd had no room for is sent again: its queue is full for a moment when a machine starts."""

_BUSY: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})


class Notifier:
    """Sends states. address: of the socket, "" for none. watchdog_seconds: within which a sign of life is expected; 0: none is."""

    def __init__(self, address: str, watchdog_seconds: float) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_seconds = watchdog_seconds
        self._is_ready = False
        self._unsent: dict[str, str] = {}
        self._retry: asyncio.TimerHandle | None = None

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Read what systemd says, and take it out of the environment: children are not to speak for this process."""
        address = environ.pop("NOTIFY_SOCKET", "")
        interval, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        is_ours = pid in {"", str(os.getpid())}
        return cls(address, int(interval) / 1e6 if is_ours and interval.isdecimal() else 0.0)

    def ready(self) -> None:
        """Say that the process serves; once."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY", "1")

    def stopping(self) -> None:
        """Say that the process is about to end."""
        self._send("STOPPING", "1")

    def status(self, text: str) -> None:
        """Show a line in `systemctl status`."""
        self._send("STATUS", " ".join(text.split()))

    async def feed_watchdog(self) -> None:
        """Say that the event loop turns, until cancelled; systemd restarts a process that no longer says so."""
        while self._watchdog_seconds:
            self._send("WATCHDOG", "1")
            await asyncio.sleep(min(self._watchdog_seconds / WATCHDOG_SHARE, LONGEST_PAUSE))

    def _send(self, variable: str, value: str) -> None:
        if self._address:
            self._unsent[variable] = value
            self._flush()

    def _flush(self) -> None:
        """Send what is not sent yet, each variable's last value, until there is no more room."""
        for variable, value in tuple(self._unsent.items()):
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
                    sock.sendto(f"{variable}={value}".encode(errors="replace"), self._address)
            except OSError as error:
                if error.errno in _BUSY:
                    self._flush_later()
                    return
            # Sent, or nobody is there to hear it.
            del self._unsent[variable]

    def _flush_later(self) -> None:
        if self._retry is None:
            with contextlib.suppress(RuntimeError):  # no loop runs: the next state brings it along
                self._retry = asyncio.get_running_loop().call_later(RETRY, self._flush_again)

    def _flush_again(self) -> None:
        self._retry = None
        self._flush()
