"""One uproxy per network namespace: whoever holds an abstract unix socket is the one.

Abstract names belong to the network namespace and vanish with their process (unix(7)), so a crash leaves
no stale lock behind.
"""

from __future__ import annotations

import socket
import struct

from uproxy.errors import AlreadyRunning

_NAME = "\0uproxy.io/run"
_CREDENTIALS = struct.Struct("iII")


def acquire() -> socket.socket:
    """Take the lock and give the socket that holds it until it is closed.

    Raises AlreadyRunning with the process id of the holder.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(_NAME)
    except OSError:
        lock.close()
        raise AlreadyRunning(f"another uproxy serves this network namespace: process {_holder()}") from None
    lock.listen(1)
    return lock


def _holder() -> str:
    """Ask the kernel for the peer's process id (SO_PEERCRED); 0 means that it is in another pid namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(_NAME)
        except OSError:
            return "unknown (it is just ending)"
        pid = _CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    return str(pid) if pid else "in another pid namespace"
