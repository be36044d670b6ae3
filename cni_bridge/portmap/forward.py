"""Forwarding a container's ports: which back end does it, in which order, and how its failures are told.

Owns the choice between the back ends. Rules come first, then what clients must forget, then the host's own loopback.
"""

from __future__ import annotations

from cni_bridge.iptables import IptablesError
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.ownership import Attachment
from cni_bridge.portmap import conntrack, iptables_backend, localnet, nft_backend, plan, removal
from cni_bridge.portmap.config import IPTABLES, NFTABLES
from cni_bridge.portmap.nft_backend import NftError
from cni_bridge.protocol.errors import IO_FAILURE, TRY_AGAIN_LATER, CniError
from cni_bridge.rules_lock import LockHeldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from cni_bridge.portmap.config import Mapping, Settings
    from cni_bridge.portmap.plan import Forwarding
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request

_IPV4_BYTES = 4
_FAILURES = (IptablesError, NftError, NetlinkError, LockHeldError, OSError)
_BACKENDS: dict[str, ModuleType] = {IPTABLES: iptables_backend, NFTABLES: nft_backend}


def add(request: Request, settings: Settings, wanted: list[Mapping], result: Result) -> None:
    """Forward the ports to the addresses of the result. Raises CniError; then nothing of it is left."""
    backend = _backend(settings)
    attachment = Attachment(request.name, request.container_id, request.ifname)
    try:
        for forwarding in plan.forwardings(attachment, settings, wanted, result):
            backend.add(forwarding)
            _forget_older_flows(forwarding)
            if settings.snat and len(forwarding.address) == _IPV4_BYTES:
                localnet.allow(forwarding.address)
    except _FAILURES as error:
        raise _told(error, "; ".join(removal.remove(request, settings, attachment))) from None


def _backend(settings: Settings) -> ModuleType:
    """Give the back end: the configured one, else iptables unless only nftables works. Raises CniError (7)."""
    name = settings.backend
    if not name:
        name = NFTABLES if not iptables_backend.is_usable() and nft_backend.is_usable() else IPTABLES
    settings.check_words(name)
    return _BACKENDS[name]


def _forget_older_flows(forwarding: Forwarding) -> None:
    """After the rules came, so that a client's next packet meets them."""
    for mapping in forwarding.mappings:
        if mapping.protocol == "udp":
            conntrack.forget_or_note(conntrack.to_port(mapping.host_port, mapping.host_ip, forwarding.address))


def check(request: Request, settings: Settings, wanted: list[Mapping], result: Result) -> None:
    """Raise CniError (104) with the first rule that is missing."""
    backend = _backend(settings)
    attachment = Attachment(request.name, request.container_id, request.ifname)
    try:
        for forwarding in plan.forwardings(attachment, settings, wanted, result):
            backend.check(forwarding)
    except _FAILURES as error:
        raise _told(error) from None


def status(settings: Settings) -> None:
    """Raise CniError (50 or 51) when ports could not be forwarded, or are not any more."""
    try:
        _backend(settings).status()
    except _FAILURES as error:
        raise _told(error) from None


def _told(error: Exception, details: str = "") -> CniError:
    return CniError(TRY_AGAIN_LATER if isinstance(error, LockHeldError) else IO_FAILURE, str(error), details)
