"""The delegated address plugin: executed, or called in this process when it is our own host-local.

Owns that choice; knows nothing of addresses. Calling it saves a second start of the interpreter. Whatever `ipam.type`
names is looked for in CNI_PATH first, so that what an administrator put there is what runs.
"""

from __future__ import annotations

from cni_bridge.fast import posix
from cni_bridge.protocol.errors import DELEGATE_FAILED, CniError
from cni_bridge.protocol.search import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request
    from cni_bridge.rollback import Rollback

OURS = "host-local"
_MARK = b"cni_bridge"
_HEAD_BYTES = 4096


class Ipam:
    """The IPAM plugin of one request; without a type there is none and every verb does nothing."""

    __slots__ = ("_is_ours", "_request", "_type")

    def __init__(self, request: Request, kind: str) -> None:
        self._request = request
        self._type = kind
        self._is_ours: bool | None = None

    def __bool__(self) -> bool:
        return bool(self._type)

    @property
    def is_in_process(self) -> bool:
        """Tell whether it is called here. Raises CniError (4 or 7) when its executable is not there, as executing it would."""
        if self._is_ours is None:
            self._is_ours = self._type == OURS and _is_our_own(find(self._type, self._request.path))
        return self._is_ours

    def add(self, rollback: Rollback) -> Result:
        """Get addresses, and remember how to give them back. Raises CniError.

        An executed plugin gets a DEL whatever happens (specification 1.1.0, section 4); its attachment is new, for the
        container's interface is. Called here it may find that the attachment exists already: what that holds it keeps.
        """
        if self.is_in_process:
            from cni_bridge.host_local import verbs  # noqa: PLC0415 - another plugin's store is not read here

            result, taken = verbs.take(self._request)
            rollback.add("IPAM DEL", lambda: verbs.give_back(self._request, taken))
        else:
            from cni_bridge.protocol import delegate  # noqa: PLC0415 - and where ours is called, nothing is executed

            rollback.add("IPAM DEL", lambda: self.run("DEL"))
            result = delegate.add(self._type, self._request)
        if not result["ips"]:
            raise CniError(DELEGATE_FAILED, f'IPAM plugin "{self._type}" returned missing IP config')
        return result

    def run(self, command: str) -> None:
        """Pass DEL, CHECK, GC or STATUS on. Raises CniError."""
        if not self._type:
            return
        if not self.is_in_process:
            from cni_bridge.protocol import delegate  # noqa: PLC0415 - as in add

            delegate.run(self._type, command, self._request)
            return
        from cni_bridge.host_local import verbs  # noqa: PLC0415 - as in add

        {"DEL": verbs.del_, "CHECK": verbs.check, "GC": verbs.gc, "STATUS": verbs.status}[command](self._request)


def _is_our_own(executable: str) -> bool:
    """Tell our stub, a few lines that name this package, from any other host-local."""
    try:
        descriptor = posix.open(executable, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        head = posix.read(descriptor, _HEAD_BYTES)
    finally:
        posix.close(descriptor)
    return head.startswith(b"#!") and _MARK in head
