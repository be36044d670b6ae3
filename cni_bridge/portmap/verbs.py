"""ADD, DEL, CHECK, GC and STATUS of portmap (specification 1.1.0, section 2), as the skeleton calls them.

Owns what a verb reads before anything is done. A request without ports loads no back end and costs no process: ADD passes
the result on at once, and DEL asks the kernel alone whether anything was left.
"""

from __future__ import annotations

from cni_bridge.ownership import Attachment
from cni_bridge.portmap.config import Settings, mappings
from cni_bridge.protocol.errors import INVALID_CONFIG, IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request

ABOUT = "CNI plugin portmap of cni_bridge"


def add(request: Request) -> Result:
    """Forward the container's ports and pass the previous result on. Raises CniError; then nothing of it is left."""
    settings, result = Settings(request), _previous(request, "must be called as chained plugin")
    wanted = mappings(request)
    if wanted:
        from cni_bridge.portmap import forward  # noqa: PLC0415 - most containers have no ports: only who has some pays

        forward.add(request, settings, wanted, result)
    return result


def _previous(request: Request, complaint: str) -> Result:
    result = request.prev_result
    if result is None:
        raise CniError(INVALID_CONFIG, complaint, 'there is no "prevResult"')
    return result


def del_(request: Request) -> None:
    """Remove the container's rules of either back end. Raises CniError (5) with all that failed, when everything was tried."""
    from cni_bridge.portmap import removal  # noqa: PLC0415 - the other verbs do without

    settings = Settings(request)
    _report("DEL", removal.remove(request, settings, Attachment(request.name, request.container_id, request.ifname)))


def _report(verb: str, failures: list[str]) -> None:
    if failures:
        raise CniError(IO_FAILURE, f"{verb}: {failures[0]}", "; ".join(failures[1:]))


def check(request: Request) -> None:
    """Compare the rules with the configuration. Raises CniError: 104 with the first that is missing, 7 without prevResult."""
    settings, result = Settings(request), _previous(request, "Required prevResult missing")
    wanted = mappings(request)
    if wanted:
        from cni_bridge.portmap import forward  # noqa: PLC0415 - as above

        forward.check(request, settings, wanted, result)


def gc(request: Request) -> None:
    """Remove the rules of containers that are none of the valid attachments'. Raises CniError (5) when everything was tried."""
    from cni_bridge.portmap import removal  # noqa: PLC0415 - as above

    settings = Settings(request)
    valid = [Attachment(request.name, container_id, ifname) for container_id, ifname in request.valid_attachments]
    _report("GC", removal.collect(settings, valid))


def status(request: Request) -> None:
    """Tell whether an ADD could be served. Raises CniError (50 or 51)."""
    from cni_bridge.portmap import forward  # noqa: PLC0415 - as above

    forward.status(Settings(request))
