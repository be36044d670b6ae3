"""Who may reach a listener: the lists of core/admission.py on its socket.

Knows nothing of why. The kernel drops everybody else before the socket hears of them, so a list costs this process nothing.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from uproxy.core.admission import DROP_ALL, program, without_newcomers
from uproxy.core.model import Family
from uproxy.socket_filter import attach, detach

if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

    from uproxy.core.admission import Instruction, Lists


def admit(sock: _socket.socket, lists: Lists) -> None:
    """Let in who is in each of the lists; () lets in everybody.

    Raises OSError: then the former lists hold, or with ENOMEM perhaps nobody is let in.
    """
    code = program(lists, _family(sock))
    if code:
        _exchange(sock, code)
    else:
        detach(sock)


def admit_no_newcomers(sock: _socket.socket, lists: Lists) -> None:
    """Let who is in each of the lists end the handshake that it has begun, and nobody begin one. Raises OSError as admit() does."""
    _exchange(sock, without_newcomers(lists, _family(sock)))


def _family(sock: _socket.socket) -> Family:
    return Family.IPV6 if sock.family == socket.AF_INET6 else Family.IPV4


def _exchange(sock: _socket.socket, code: Sequence[Instruction]) -> None:
    try:
        attach(sock, code)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        # The former program and the new one count together while they change places; what is lost meanwhile is sent again.
        attach(sock, DROP_ALL)
        attach(sock, code)
