"""The loopback plugin: `lo` up in the container's namespace, and down again.

Owns nothing else. Runtimes run it before the real network; it has no configuration of its own.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.fast import posix
from cni_bridge.namespace import Inside, NotANamespace, open_path
from cni_bridge.netlink import address, link
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.protocol import results
from cni_bridge.protocol.errors import INVALID_CONFIG, INVALID_NETNS, IO_FAILURE, NOT_AS_REPORTED, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_bridge.netlink.link import Link
    from cni_bridge.protocol.results import Ip, Result
    from cni_bridge.protocol.skeleton import Request

ABOUT = "CNI plugin loopback of cni_bridge"
_NAME = "lo"


def add(request: Request) -> Result:
    """Bring lo up and report it, or pass the previous result on. Raises CniError: 5, 7 for a foreign address on lo, 8."""
    found, there = _inside(request.netns, _bring_up)
    prev = request.prev_result
    if prev is not None:
        return prev
    result = results.empty()
    result["interfaces"] = [{"name": _NAME, "mac": found.mac, "sandbox": request.netns}]
    result["ips"] = there
    return result


def del_(request: Request) -> None:
    """Take lo down; a namespace that is gone took it along. Raises CniError (5)."""
    if not request.netns:
        return
    try:
        _inside(request.netns, _take_down)
    except CniError as error:
        if error.code != INVALID_NETNS:
            raise


def check(request: Request) -> None:
    """Raise CniError (104) when lo is not up, 7 without a previous result."""
    if request.prev_result is None:
        raise CniError(INVALID_CONFIG, "Required prevResult missing", "CHECK compares with it")
    found, _ = _inside(request.netns, _read)
    if not found.is_up:
        raise CniError(NOT_AS_REPORTED, "loopback interface is down")


def gc(request: Request) -> None:
    """Do nothing, once the request is complete: lo belongs to its namespace and goes with it."""
    _ = request.valid_attachments


def status(_: Request) -> None:
    """Do nothing: there is nothing that could be missing."""


def _inside(netns: str, work: Callable[[Connection], tuple[Link, list[Ip]]]) -> tuple[Link, list[Ip]]:
    try:
        descriptor = open_path(netns)
    except (OSError, ValueError, NotANamespace) as error:
        raise CniError(INVALID_NETNS, f'failed to open netns "{netns}": {error}') from None
    try:
        with Inside(descriptor), Connection() as connection:
            return work(connection)
    except (NetlinkError, OSError) as error:
        raise CniError(IO_FAILURE, str(error)) from None
    finally:
        posix.close(descriptor)


def _read(connection: Connection) -> tuple[Link, list[Ip]]:
    found = link.first(connection.perform(link.get(_NAME))[0])
    if found is None:
        raise CniError(IO_FAILURE, "the namespace has no loopback interface")
    there = address.of_interface(connection.dump(address.dump(found.index)), found.index)
    return found, [{"interface": 0, "address": addresses.cidr_text(one.address, one.prefix)} for one in there]


def _bring_up(connection: Connection) -> tuple[Link, list[Ip]]:
    found, _ = _read(connection)
    connection.perform(link.set_up(found.index, _NAME))
    found, there = _read(connection)
    for ip in there:
        packed, _ = addresses.parse_cidr(ip["address"])
        if not (addresses.is_in(packed, b"\x7f\0\0\0", 8) or packed == bytes(15) + b"\1"):
            raise CniError(INVALID_CONFIG, f"loopback interface has an address that is none of loopback: {ip['address']}")
    return found, there


def _take_down(connection: Connection) -> tuple[Link, list[Ip]]:
    found, there = _read(connection)
    connection.perform(link.set_flags(found.index, _NAME, 0, link.UP))
    return found, there
