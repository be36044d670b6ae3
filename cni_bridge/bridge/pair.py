"""The veth pair of an attachment: made in one request, waited for.

`host_ends` finds it again. A kill between making a pair and giving it its alias leaves one without: the name, which
is computed from the attachment, is enough for its DEL, and the group, which the kernel does set with the name, for GC.
"""

from __future__ import annotations

import time

from cni_bridge.bridge.host_ends import NAME_TRIES
from cni_bridge.bridge.interfaces import find, random_mac
from cni_bridge.namespace import Inside
from cni_bridge.netlink import link
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import EEXIST, NetlinkError
from cni_bridge.protocol.errors import ALREADY_EXISTS, IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.bridge.names import Attachment
    from cni_bridge.netlink.link import Link, VethEnd

GROUP = 109
"""Of all host ends that we make (IFLA_GROUP): nobody else's in iproute2's tables; the kernel itself gives it no meaning."""
PORT_UP_SECONDS = 5
"""A veth's carrier comes with its other end; the kernel's worker that tells of it may wait for another's lock."""


def make(connection: Connection, attachment: Attachment, container_end: VethEnd, *, bridge: int, mtu: int) -> Link:
    """Make the pair with its host end a port of the bridge and up; give the host end.

    container_end: with the descriptor of the container's namespace. Raises CniError (105) when its name is taken there.
    """
    for attempt in range(NAME_TRIES):
        name = attachment.veth(attempt)
        try:
            return _make_one(connection, attachment.alias, link.VethEnd(name, random_mac(), master=bridge, group=GROUP), container_end, mtu)
        except NetlinkError as error:
            if error.number != EEXIST:
                raise
            _refuse_taken_name(name, container_end)
    tried = ", ".join(attachment.veth(attempt) for attempt in range(NAME_TRIES))
    raise CniError(ALREADY_EXISTS, "no free name for the host's end of the pair", tried)


def _make_one(connection: Connection, alias: str, host_end: VethEnd, container_end: VethEnd, mtu: int) -> Link:
    """Make a pair and name it, or leave none: a request whose answer got lost may have been carried out."""
    try:
        connection.perform(link.create_veth(host_end, container_end, mtu))
        return _named(connection, host_end.name, alias)
    except (CniError, NetlinkError, OSError) as error:
        if not isinstance(error, NetlinkError) or error.number != EEXIST:
            connection.perform(link.delete(host_end.name))
        raise


def _named(connection: Connection, name: str, alias: str) -> Link:
    made = link.first(connection.perform(link.set_alias(name, alias), link.get(name))[1])
    if made is None:
        raise CniError(IO_FAILURE, f"interface {name} vanished as soon as it was made")
    return made


def _refuse_taken_name(name: str, container_end: VethEnd) -> None:
    """Tell which of the two names exists: the kernel does not."""
    with Inside(container_end.netns), Connection() as inside:
        if find(inside, container_end.name) is not None:
            raise CniError(ALREADY_EXISTS, f'container veth name ("{container_end.name}") peer provided ("{name}") already exists')


def wait_until_up(connection: Connection, port: Link) -> None:
    """Wait until the port's operational state is up: from then on its bridge forwards. Raises CniError (5) when it takes too long."""
    if _is_up(connection, port):
        return
    from cni_bridge.netlink.subscription import GROUP_LINK, Subscription  # noqa: PLC0415 - most are up by now

    deadline = time.monotonic() + PORT_UP_SECONDS
    with Subscription(GROUP_LINK) as news:
        while not _is_up(connection, port):
            if not news.wait(port.index, deadline):
                state = link.OPERSTATES[port.operstate]
                raise CniError(IO_FAILURE, f"bridge port in error state: {state}", f"{port.name} was not up within {PORT_UP_SECONDS} s")


def _is_up(connection: Connection, port: Link) -> bool:
    now = link.first(connection.perform(link.get_index(port.index))[0])
    if now is None:
        raise CniError(IO_FAILURE, f"interface {port.name} was deleted while it came up")
    port.operstate = now.operstate
    return now.operstate == link.OPERSTATE_UP
