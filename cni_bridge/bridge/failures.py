"""How a verb of bridge that failed is told to the runtime, with what the kernel said and what was left behind."""

from __future__ import annotations

from cni_bridge.protocol.errors import IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.netlink.message import NetlinkError


def told(error: CniError | NetlinkError | OSError) -> CniError:
    """Make any failure one for the runtime, with what could not be undone."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    if isinstance(error, CniError):
        error.details = "; ".join(part for part in (error.details, notes) if part)
        return error
    return CniError(IO_FAILURE, str(error), notes)


def of_steps(failures: list[str], verb: str) -> CniError:
    """Make one of all that went wrong with what was to be removed."""
    return CniError(IO_FAILURE, f"{verb}: {failures[0]}", "; ".join(failures[1:]))
