"""ADD, DEL, CHECK, GC and STATUS of bridge (specification 1.1.0, section 2), as the skeleton calls them.

Owns their names and promises: each loads the module that does the work, and no other.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request

ABOUT = "CNI plugin bridge of cni_bridge"


def add(request: Request) -> Result:
    """Attach a container and give the result. Raises CniError; then nothing is left but what all pods share."""
    from cni_bridge.bridge import attach  # noqa: PLC0415 - every import costs, and a process serves one verb

    return attach.run(request)


def del_(request: Request) -> None:
    """Detach as far as there is something. Raises CniError (5) with all that failed, when everything was tried."""
    from cni_bridge.bridge import detach  # noqa: PLC0415 - as above

    detach.run(request)


def check(request: Request) -> None:
    """Compare the attachment with the previous result and the configuration. Raises CniError (104) with the first difference."""
    from cni_bridge.bridge import check as comparison  # noqa: PLC0415 - as above

    comparison.run(request)


def gc(request: Request) -> None:
    """Remove what is none of the valid attachments'. Raises CniError (5) with all that failed, when everything was tried."""
    from cni_bridge.bridge import collect  # noqa: PLC0415 - as above

    collect.run(request)


def status(request: Request) -> None:
    """Tell whether an ADD could be served. Raises CniError (50 or 51)."""
    from cni_bridge.bridge import status as judgement  # noqa: PLC0415 - as above

    judgement.run(request)
