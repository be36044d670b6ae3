"""Attaching a classic BPF program to a socket, so that the kernel drops what it says no to (socket(7), SO_ATTACH_FILTER).

Knows nothing of what programs are for. A listening socket's program is run on what begins a connection, and what it
accepts inherits it; exchanging it later changes nothing for those.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

ATTACH: Final = 26
DETACH: Final = 27
LONGEST: Final = 4096
"""Instructions of a program: BPF_MAXINSNS of linux/bpf_common.h."""


def attach(sock: _socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Run a program from now on, in place of any before: struct sock_filter each.

    Raises OSError, and then the program before stays: E2BIG beyond LONGEST; ENOMEM where it does not fit into
    net.core.optmem_max, beside the one before.
    """
    if len(program) > LONGEST:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, ATTACH, struct.pack("@HP", len(program), ctypes.addressof(code)))


def detach(sock: _socket.socket) -> None:
    """Let everything through; a socket without a program is no error."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, DETACH, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
