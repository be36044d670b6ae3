"""Waiting for the kernel's announcements instead of asking again and again (rtnetlink(7), multicast groups).

Knows no message family but where the index of an interface stands in two of them.
"""

from __future__ import annotations

import errno
import time

from cni_bridge.fast import socket
from cni_bridge.netlink.connection import AF_NETLINK, RECEIVE_BYTES, ROUTE, SOCK_RAW_CLOEXEC
from cni_bridge.netlink.message import I32, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

GROUP_LINK, GROUP_IPV6_ADDRESS = 1, 9  # RTNLGRP_*
_UP_TO_INDEX = 8  # bytes of ifinfomsg and ifaddrmsg, the index included


class Subscription:
    """Announcements of one multicast group of the current namespace, for waiting without polling.

    Make it, then read the state, then wait: what happens between reading and waiting is already queued.
    """

    __slots__ = ("_socket",)

    def __init__(self, group: int) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, ROUTE)
        self._socket.bind((0, 1 << (group - 1)))  # a member that is not bound misses what the kernel itself announces

    def close(self) -> None:
        """Leave the group; repeating it is no error."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def wait(self, index: int, deadline: float) -> bool:
        """Wait for news of the interface: True means read again (news, or news were lost), False that time is up.

        index: of the interface; it stands at offset 4 of ifinfomsg and ifaddrmsg alike. deadline: time.monotonic() seconds.
        """
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                self._socket.settimeout(left)
                news = split(self._socket.recv(RECEIVE_BYTES))
            except TimeoutError:
                return False
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return True
            if any(I32.unpack_from(payload, 4)[0] == index for _, _, _, payload in news if len(payload) >= _UP_TO_INDEX):
                return True
