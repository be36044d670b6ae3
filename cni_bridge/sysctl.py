"""Kernel settings below /proc/sys/net: read, written when they differ.

Knows no setting's meaning. /proc/sys/net shows the network namespace of the thread that opens a file. Keys are paths
below it ("ipv4/conf/eth0/arp_notify"): the names of interfaces may hold dots.
"""

from __future__ import annotations

from cni_bridge.fast import posix

_ROOT = "/proc/sys/net/"
_LONGEST = 256


def read(key: str) -> str:
    """Give the value without its line end. Raises OSError."""
    descriptor = posix.open(_ROOT + key, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(descriptor, _LONGEST).decode().strip()
    finally:
        posix.close(descriptor)


def write(key: str, value: str) -> None:
    """Write a value. Raises OSError."""
    descriptor = posix.open(_ROOT + key, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(descriptor, value.encode())
    finally:
        posix.close(descriptor)


def write_if_there(key: str, value: str) -> None:
    """Write a setting that not every kernel has: nothing happens where it is missing. Raises OSError otherwise."""
    try:
        write(key, value)
    except FileNotFoundError:
        return


def ensure(key: str, value: str) -> None:
    """Write a value unless it is there: /proc/sys may be read-only with everything as it should be. Raises OSError."""
    if read(key) != value:
        write(key, value)
