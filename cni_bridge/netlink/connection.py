"""Netlink sockets: requests that are acknowledged, and dumps.

Knows no message family. A `Connection` belongs to the network namespace in which it was opened, wherever its thread goes later.
Invariant: after `perform` or `dump` returned or raised NetlinkError, nothing of theirs is left in the socket.
"""

from __future__ import annotations

from cni_bridge.fast import Struct, socket
from cni_bridge.netlink.message import (
    ACK,
    DUMP,
    DUMP_INTERRUPTED,
    EINTR,
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
SOCK_RAW_CLOEXEC = 3 | 0x80000
_SOL_SOCKET, _SO_RCVTIMEO = 1, 20
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT_CHECK = 270, 10, 11, 12
_TIMEVAL = Struct("@ll")

ANSWER_SECONDS = 10
"""The kernel answers before send() returns; only another's grip on its locks (many devices going away) makes that long."""
RECEIVE_BYTES = 65536
"""A dump's datagrams hold at most 32 KiB (netlink_dump in net/netlink/af_netlink.c); a link with many VFs may need more."""
DUMP_TRIES = 20


class Connection:
    """One netlink socket of the current namespace, for one protocol (ROUTE or NETFILTER)."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol)
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
        packed = [message.pack(first + place, ACK if message.wants_ack else 0) for place, message in enumerate(messages)]
        self._socket.send(b"".join(packed))
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
                    if not messages[place].wants_ack:
                        waiting.discard(place)
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
        raise NetlinkError(EINTR, message.purpose, f"changed under each of {DUMP_TRIES} dumps")

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
                    return None if interrupted or number == EINTR else found
                found.append(payload)

    def _receive(self, message: Message) -> list[tuple[int, int, int, bytes]]:
        try:
            return split(self._socket.recv(RECEIVE_BYTES))
        except BlockingIOError:
            import errno  # noqa: PLC0415 - hardly ever

            raise NetlinkError(errno.ETIMEDOUT, message.purpose, f"no answer within {ANSWER_SECONDS} s") from None


def _described(message: Message, flags: int, payload: bytes) -> tuple[int, str, str]:
    number, reason = error_of(flags, payload)
    return number, message.purpose, reason


def _end_of_dump(kind: int, message: Message, flags: int, payload: bytes) -> int:
    number, reason = error_of(flags, payload) if kind == TYPE_ERROR else (-I32.unpack_from(payload)[0] if payload else 0, "")
    if number and number != EINTR and number not in message.tolerated:
        raise NetlinkError(number, message.purpose, reason)
    return number
