"""Forgetting UDP flows of which the kernel still believes that they go elsewhere (linux/netfilter/nfnetlink_conntrack.h).

Owns the messages. A flow's translation is decided by its first packet: one that was there before the rules goes on to the
host, and one that outlives its container goes on to nobody, for as long as the client keeps sending. TCP begins anew.
"""

from __future__ import annotations

import errno

from cni_bridge.fast import Struct, posix
from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink.address import family_of
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NESTED, U8, U32, Message, NetlinkError, attribute, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_GET, _DELETE = 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_HEADER = Struct("!BBH")  # nfgenmsg: family, version, resource
_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25  # CTA_*
_IP, _PROTOCOL = 1, 2  # CTA_TUPLE_*
_NUMBER, _DESTINATION_PORT = 1, 3  # CTA_PROTO_*
_ADDRESSES = {4: (1, 2), 16: (3, 4)}  # CTA_IP_*: source and destination, by the bytes of an address
_UDP = 17
_STDERR = 2
_FILTER_NUMBER, _FILTER_DESTINATION_PORT = 1 << 3, 1 << 5  # CTA_FILTER_F_* of the kernel's nf_internals.h
_NO_CONNTRACK = (errno.EINVAL, errno.EOPNOTSUPP)
"""A kernel without connection tracking over netlink: then there is nothing that it could forget."""


class Flow:
    """One flow as the kernel lists it: where its packets were sent to, and who answers."""

    __slots__ = ("_known_as", "destination", "port", "replier")

    def __init__(self, payload: bytes, size: int) -> None:
        found = attributes(payload, _HEADER.size)
        source_kind, destination_kind = _ADDRESSES[size]
        original = attributes(found[_ORIGINAL])
        protocol = attributes(original[_PROTOCOL])
        is_udp = protocol[_NUMBER] == U8.pack(_UDP)
        self.destination = attributes(original[_IP]).get(destination_kind, b"")
        self.port = int.from_bytes(protocol.get(_DESTINATION_PORT, b""), "big") if is_udp else 0
        self.replier = attributes(attributes(found[_REPLY])[_IP]).get(source_kind, b"") if is_udp else b""
        self._known_as = b"".join([attribute(kind | (NESTED if kind == _ORIGINAL else 0), found[kind]) for kind in _NAMES if kind in found])

    def forget(self, size: int) -> Message:
        """Ask for its removal; one that is gone is no error."""
        head = _HEADER.pack(family_of(bytes(size)), 0, 0)
        return Message(_DELETE, 0, head + self._known_as, "forget a UDP flow", (errno.ENOENT,))


_NAMES = (_ORIGINAL, _ZONE, _ID)


class Flows:
    """Which flows to forget. wanted: what the kernel is asked for, as (attributes of a flow, CTA_FILTER_F_*).

    mark: bytes that every chosen flow's listing holds; is_chosen: which of those are meant.
    """

    __slots__ = ("is_chosen", "listing", "mark", "size")

    def __init__(self, size: int, wanted: tuple[bytes, int], mark: bytes, is_chosen: Callable[[Flow], bool]) -> None:
        self.size = size
        self.listing = _listing(size, *wanted)
        self.mark = mark
        self.is_chosen = is_chosen


def _listing(size: int, flow: bytes, fields: int) -> Message:
    """Ask for flows whose first packets have these attributes; kernels before 5.8 know no filter and give all."""
    head = _HEADER.pack(family_of(bytes(size)), 0, 0)
    chosen = attribute(_FILTER | NESTED, attribute(_ORIGINAL, U32.pack(fields)))
    body = head + attribute(_ORIGINAL | NESTED, attribute(_PROTOCOL | NESTED, flow)) + chosen
    return Message(_GET, 0, body, "list UDP flows", _NO_CONNTRACK)


_IS_UDP = attribute(_NUMBER, U8.pack(_UDP))


def to_port(port: int, host_ip: bytes, pod: bytes) -> Flows:
    """Choose the flows to a port of the host that do not lead to the container.

    host_ip: the only address that is forwarded; empty when all of the host's are.
    """
    at_port = attribute(_DESTINATION_PORT, port.to_bytes(2, "big"))

    def is_wrong(flow: Flow) -> bool:
        return flow.port == port and flow.replier != pod and (not host_ip or flow.destination == host_ip)

    return Flows(len(pod), (_IS_UDP + at_port, _FILTER_NUMBER | _FILTER_DESTINATION_PORT), at_port, is_wrong)


def to_pod(pod: bytes) -> Flows:
    """Choose the flows that were sent elsewhere and led to a container.

    The kernel is not asked for the address: its filter takes IPv6 addresses for equal when they differ (seen in Linux 6.18).
    """
    return Flows(len(pod), (_IS_UDP, _FILTER_NUMBER), pod, lambda flow: flow.replier == pod and flow.destination != pod)


def forget(flows: Flows) -> None:
    """Remove the chosen flows. Raises NetlinkError, OSError."""
    with Connection(sockets.NETFILTER) as connection:
        listed = [Flow(payload, flows.size) for payload in connection.dump(flows.listing) if flows.mark in payload]
        for flow in listed:
            if flows.is_chosen(flow):
                connection.perform(flow.forget(flows.size))


def forget_or_note(flows: Flows) -> None:
    """Remove the chosen flows; a failure is told on stderr alone, for rules and other traffic are as they should be."""
    try:
        forget(flows)
    except (NetlinkError, OSError) as error:
        posix.write(_STDERR, f"portmap: UDP flows may go on to where they went before: {error}\n".encode())
