"""ADD, DEL, CHECK, GC and STATUS of bridge (specification 1.1.0, section 2), as the skeleton calls them.

Owns what is opened and closed around a verb and how a failure of the kernel is told; the steps are the other modules'.
"""

from __future__ import annotations

from cni_bridge.bridge.config import Settings
from cni_bridge.bridge.ipam import Ipam
from cni_bridge.fast import posix
from cni_bridge.namespace import NotANamespace, open_path
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.protocol.errors import INVALID_NETNS, IO_FAILURE, CniError
from cni_bridge.rollback import Rollback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request

ABOUT = "CNI plugin bridge of cni_bridge"


def add(request: Request) -> Result:
    """Attach a container and give the result. Raises CniError; then nothing is left but what all pods share."""
    from cni_bridge.bridge.attach import Attaching  # noqa: PLC0415 - the other verbs do without: every import costs

    settings = Settings(request)
    ipam = Ipam(request, settings.ipam)
    netns = _open(request.netns)
    try:
        with Connection() as connection:
            return Attaching(request, settings, ipam=ipam, netns=netns, connection=connection).run()
    except (CniError, NetlinkError, OSError) as error:
        raise _told(error) from None
    finally:
        posix.close(netns)


def del_(request: Request) -> None:
    """Detach as far as there is something. Raises CniError (5) with all that failed, when everything was tried."""
    from cni_bridge.bridge.detach import Detaching  # noqa: PLC0415 - as above

    settings = Settings(request)
    steps = Rollback()
    with Connection() as connection:
        Detaching(request, settings, ipam=Ipam(request, settings.ipam), connection=connection).prepare(steps)
        _finish(steps, "DEL")


def check(request: Request) -> None:
    """Compare the attachment with the previous result and the configuration. Raises CniError (104) with the first difference."""
    from cni_bridge.bridge.check import Checking  # noqa: PLC0415 - as above

    settings = Settings(request)
    try:
        with Connection() as connection:
            Ipam(request, settings.ipam).run("CHECK")
            Checking(request, settings, connection).run()
    except NotANamespace as error:
        raise CniError(INVALID_NETNS, str(error)) from None
    except (NetlinkError, OSError) as error:
        raise _told(error) from None


def gc(request: Request) -> None:
    """Remove what is none of the valid attachments'. Raises CniError (5) with all that failed, when everything was tried."""
    from cni_bridge.bridge.collect import Collecting  # noqa: PLC0415 - as above

    settings = Settings(request)
    steps = Rollback()
    with Connection() as connection:
        Collecting(request, settings, ipam=Ipam(request, settings.ipam), connection=connection).prepare(steps)
        _finish(steps, "GC")


def status(request: Request) -> None:
    """Tell whether an ADD could be served. Raises CniError (50 or 51)."""
    from cni_bridge.bridge import status as judgement  # noqa: PLC0415 - as above

    settings = Settings(request)
    try:
        with Connection() as connection:
            judgement.check(connection, settings)
        Ipam(request, settings.ipam).run("STATUS")
    except (NetlinkError, OSError) as error:
        raise _told(error) from None


def _open(path: str) -> int:
    try:
        return open_path(path)
    except NotANamespace as error:
        raise CniError(INVALID_NETNS, str(error)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CniError(INVALID_NETNS, f'failed to open netns "{path}": {reason}') from None


def _told(error: CniError | NetlinkError | OSError) -> CniError:
    """Make any failure one for the runtime, with what could not be undone."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    if isinstance(error, CniError):
        error.details = "; ".join(part for part in (error.details, notes) if part)
        return error
    return CniError(IO_FAILURE, str(error), notes)


def _finish(steps: Rollback, verb: str) -> None:
    failures = steps.run()
    if failures:
        raise CniError(IO_FAILURE, f"{verb}: {failures[0]}", "; ".join(failures[1:]))
