"""Netlink sockets: requests that are acknowledged, dumps, and waiting for announcements.

Knows no message family. A `Connection` belongs to the network namespace in which it was opened, wherever its thread goes later.
Invariant: after `perform` or `dump` returned or raised NetlinkError, nothing of theirs is left in the socket.
"""

from __future__ import annotations

import errno
import time

from cni_bridge.fast import Struct, socket
from cni_bridge.netlink.message import (
    ACK,
    DUMP,
    DUMP_INTERRUPTED,
    I32,
    TYPE_DONE,
    TYPE_ERROR,
    Message,
    NetlinkError,
    error_of,
    split,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

AF_NETLINK = 16
ROUTE, NETFILTER = 0, 12
_SOCK_RAW_CLOEXEC = 3 | 0x80000
_SOL_SOCKET, _SO_RCVTIMEO = 1, 20
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT_CHECK = 270, 10, 11, 12
_TIMEVAL = Struct("@ll")
_UP_TO_INDEX = 8  # bytes of ifinfomsg and ifaddrmsg, the index included

GROUP_LINK, GROUP_IPV6_ADDRESS = 1, 9  # RTNLGRP_*
ANSWER_SECONDS = 10
"""The kernel answers before send() returns; only another's grip on its locks (many devices going away) makes that long."""
RECEIVE_BYTES = 65536
"""A dump's datagrams hold at most 32 KiB (netlink_dump in net/netlink/af_netlink.c); a link with many VFs may need more."""
DUMP_TRIES = 20


class Connection:
    """One netlink socket of the current namespace, for one protocol (ROUTE or NETFILTER)."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket(AF_NETLINK, _SOCK_RAW_CLOEXEC, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_SOCKET, _SO_RCVTIMEO, _TIMEVAL.pack(ANSWER_SECONDS, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket; repeating it is no error."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def perform(self, *messages: Message) -> list[list[bytes]]:
        """Send messages in one datagram; give for each the payloads that answered it.

        The kernel carries out all of them, in order, whatever becomes of the earlier ones; the first error that its
        message does not tolerate is raised as NetlinkError when all are done.
        """
        first = self._sequence + 1
        self._sequence += len(messages)
        self._socket.send(b"".join([message.pack(first + place, ACK) for place, message in enumerate(messages)]))
        return self._collect(messages, first)

    def batch(self, begin: Message, messages: tuple[Message, ...], end: Message) -> None:
        """Send a transaction (nfnetlink): all of the messages or none of them; raises the first NetlinkError."""
        first = self._sequence + 2
        self._sequence += len(messages) + 2
        inner = [message.pack(first + place, ACK) for place, message in enumerate(messages)]
        self._socket.send(b"".join([begin.pack(first - 1), *inner, end.pack(self._sequence)]))
        self._collect(messages, first, frame=begin)

    def _collect(self, messages: tuple[Message, ...], first: int, frame: Message | None = None) -> list[list[bytes]]:
        answers: list[list[bytes]] = [[] for _ in messages]
        failure: NetlinkError | None = None
        waiting = set(range(len(messages)))
        while waiting:
            for kind, flags, sequence, payload in self._receive(messages[min(waiting)]):
                place = sequence - first
                if place == -1 and frame is not None and kind == TYPE_ERROR:
                    raise NetlinkError(*_described(frame, flags, payload))
                if place not in waiting:
                    continue
                if kind != TYPE_ERROR:
                    answers[place].append(payload)
                    continue
                waiting.discard(place)
                number, purpose, reason = _described(messages[place], flags, payload)
                if number and failure is None and number not in messages[place].tolerated:
                    failure = NetlinkError(number, purpose, reason)
        if failure is not None:
            raise failure
        return answers

    def dump(self, message: Message) -> list[bytes]:
        """Give the payloads of a whole dump; one that a change interrupted is taken anew (NLM_F_DUMP_INTR)."""
        self._ask_for_strict_checks()
        for _ in range(DUMP_TRIES):
            found = self._dump_once(message)
            if found is not None:
                return found
        raise NetlinkError(errno.EINTR, message.purpose, f"changed under each of {DUMP_TRIES} dumps")

    def _ask_for_strict_checks(self) -> None:
        """Let the kernel filter: Linux before 4.20 cannot and dumps everything, so callers compare what they asked for anyway."""
        try:
            self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
        except OSError:
            return

    def _dump_once(self, message: Message) -> list[bytes] | None:
        self._sequence += 1
        self._socket.send(message.pack(self._sequence, DUMP))
        found: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, payload in self._receive(message):
                if sequence != self._sequence:
                    continue
                interrupted |= bool(flags & DUMP_INTERRUPTED)
                if kind in {TYPE_DONE, TYPE_ERROR}:
                    number = _end_of_dump(kind, message, flags, payload)
                    return None if interrupted or number == errno.EINTR else found
                found.append(payload)

    def _receive(self, message: Message) -> list[tuple[int, int, int, bytes]]:
        try:
            return split(self._socket.recv(RECEIVE_BYTES))
        except BlockingIOError:
            raise NetlinkError(errno.ETIMEDOUT, message.purpose, f"no answer within {ANSWER_SECONDS} s") from None


def _described(message: Message, flags: int, payload: bytes) -> tuple[int, str, str]:
    number, reason = error_of(flags, payload)
    return number, message.purpose, reason


def _end_of_dump(kind: int, message: Message, flags: int, payload: bytes) -> int:
    number, reason = error_of(flags, payload) if kind == TYPE_ERROR else (-I32.unpack_from(payload)[0] if payload else 0, "")
    if number and number != errno.EINTR and number not in message.tolerated:
        raise NetlinkError(number, message.purpose, reason)
    return number


class Subscription:
    """Announcements of one multicast group of the current namespace, for waiting without polling.

    Make it, then read the state, then wait: what happens between reading and waiting is already queued.
    """

    __slots__ = ("_socket",)

    def __init__(self, group: int) -> None:
        self._socket = socket(AF_NETLINK, _SOCK_RAW_CLOEXEC, ROUTE)
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
