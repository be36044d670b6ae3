"""Who may reach a listener: the lists of core/admission.py on its socket.

Knows nothing of why. The kernel drops everybody else before the socket hears of them, so a list costs this process nothing.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from uproxy.core.admission import DROP_ALL, program
from uproxy.core.model import Family
from uproxy.socket_filter import attach, detach

if TYPE_CHECKING:
    import _socket

    from uproxy.core.admission import Lists


def admit(sock: _socket.socket, lists: Lists) -> None:
    """Let in who is in each of the lists; () lets in everybody.

    Raises OSError: then the former lists hold, or with ENOMEM perhaps nobody is let in.
    """
    code = program(lists, Family.IPV6 if sock.family == socket.AF_INET6 else Family.IPV4)
    if not code:
        detach(sock)
        return
    try:
        attach(sock, code)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        # The former program and the new one count together while they change places; what is lost meanwhile is sent again.
        attach(sock, DROP_ALL)
        attach(sock, code)
