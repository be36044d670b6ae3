"""ADD, DEL, CHECK, GC and STATUS of host-local (specification 1.1.0, section 2).

Owns their names and promises: each loads the module that does the work, and no other. All of them work under the store's
lock; none knows networking. A bridge whose `ipam.type` is host-local may call these with its own request instead of
executing this plugin.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request

ABOUT = "CNI plugin host-local of cni_bridge"


def add(request: Request) -> Result:
    """Take one address of every range set and give them with routes and dns; an error leaves nothing taken.

    Raises CniError: 4, 6, 7 for what was asked, 5 and 11 for the store, 101 to 103 for the addresses.
    """
    return take(request)[0]


def take(request: Request) -> tuple[Result, list[str]]:
    """Do as `add` does and tell which addresses were free before: what `give_back` undoes. Raises as `add` does.

    The others were the attachment's already, which asked for the very same ones once more.
    """
    from cni_bridge.host_local import taking  # noqa: PLC0415 - every import costs, and a process serves one verb

    return taking.take(request)


def give_back(request: Request, taken: Sequence[str]) -> None:
    """Release what `take` took, for a caller that fails later. Raises CniError: 5 and 11."""
    from cni_bridge.host_local import releasing  # noqa: PLC0415 - as above

    releasing.give_back(request, taken)


def del_(request: Request) -> None:
    """Release what the attachment holds; only the store's place is read from the configuration, so changes to the rest do no harm.

    Raises CniError: 5 and 11 for the store, 6 and 7 when it cannot be told where that is.
    """
    from cni_bridge.host_local import releasing  # noqa: PLC0415 - as above

    releasing.del_(request)


def check(request: Request) -> None:
    """Make sure that the attachment has a lease, and one for each address that the result had from these ranges.

    Raises CniError: 104 when it has not, 4 to 7 and 11 as ADD does.
    """
    from cni_bridge.host_local import judging  # noqa: PLC0415 - as above

    judging.check(request)


def gc(request: Request) -> None:
    """Release every lease of this network that belongs to none of the runtime's valid attachments.

    A lease in the earlier form, the container ID alone, belongs to any interface of that container. Raises CniError: 7
    without a list, 5 with all that could not be removed, 11 for the lock.
    """
    from cni_bridge.host_local import releasing  # noqa: PLC0415 - as above

    releasing.gc(request)


def status(request: Request) -> Mapping[str, object]:
    """Tell how full the pools are. Raises CniError (50) when one is exhausted or the store cannot be written, else as ADD."""
    from cni_bridge.host_local import judging  # noqa: PLC0415 - as above

    return judging.status(request)
