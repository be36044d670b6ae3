"""ADD, DEL, CHECK, GC and STATUS of firewall (specification 1.1.0, section 2), as the skeleton calls them.

Owns which family is asked and how iptables' failures are told. Accepting in a table of our own would not do: another
table's drop would still hold, so the rules stand where the host's own forwarding rules stand.
"""

from __future__ import annotations

from cni_bridge import addresses, iptables
from cni_bridge.firewall import ingress, rules
from cni_bridge.firewall.config import OPEN, Settings, bridge_of
from cni_bridge.iptables import IptablesError
from cni_bridge.ownership import Attachment
from cni_bridge.protocol.errors import (
    INVALID_CONFIG,
    IO_FAILURE,
    NOT_AS_REPORTED,
    TRY_AGAIN_LATER,
    UNAVAILABLE,
    UNAVAILABLE_AND_IMPAIRED,
    CniError,
)
from cni_bridge.rules_lock import LockHeldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.iptables import Chains, Family
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request

ABOUT = "CNI plugin firewall of cni_bridge"


def add(request: Request) -> Result:
    """Accept the container's packets and pass the previous result on. Raises CniError; then nothing of it is left."""
    settings, result = Settings(request), _previous(request)
    settings.check_backend()
    bridge = bridge_of(result) if settings.ingress_policy != OPEN else ""
    attachment = _attachment(request)
    pods = dict(_by_family(result))

    def plan(family: Family, there: Chains) -> list[str]:
        lines = rules.addition(attachment, pods[family], settings.admin_chain, there)
        return [*lines, *(ingress.addition(bridge, settings.ingress_policy, there) if bridge else ())]

    try:
        for family in pods:
            iptables.change(family, rules.TABLE, iptables.bound(plan, family))
    except (IptablesError, LockHeldError) as error:
        raise _told(error, _undo(attachment, result)) from None
    return result


def _undo(attachment: Attachment, result: Result) -> str:
    try:
        _remove(attachment, result)
    except IptablesError as error:
        return str(error)
    return ""


def _previous(request: Request) -> Result:
    result = request.prev_result
    if result is None:
        raise CniError(INVALID_CONFIG, "missing prevResult from earlier plugin")
    return result


def _attachment(request: Request) -> Attachment:
    return Attachment(request.name, request.container_id, request.ifname)


def _by_family(result: Result) -> list[tuple[Family, list[bytes]]]:
    """Give the container's addresses by family; a family without any is left out."""
    pods = [addresses.parse_cidr(ip["address"])[0] for ip in result["ips"]]
    found = [(family, [pod for pod in pods if len(pod) == family.size]) for family in iptables.FAMILIES]
    return [(family, mine) for family, mine in found if mine]


def del_(request: Request) -> None:
    """Remove the container's rules. Raises CniError (5) with all that failed, when everything was tried."""
    Settings(request)
    try:
        _remove(_attachment(request), _reported(request))
    except IptablesError as error:
        raise _told(error) from None


def _reported(request: Request) -> Result | None:
    """Give the previous result; one that cannot be read is no reason to keep anything."""
    try:
        return request.prev_result
    except CniError:
        return None


def _remove(attachment: Attachment, result: Result | None) -> None:
    reported = dict(_by_family(result)) if result else {}

    def plan(family: Family, there: Chains) -> list[str]:
        return rules.removal(attachment, reported.get(family, ()), there)

    iptables.change_both(rules.TABLE, plan)


def check(request: Request) -> None:
    """Compare the rules with the result. Raises CniError: 104 with the first that is missing, 7 without prevResult."""
    settings, result = Settings(request), _previous(request)
    settings.check_backend()
    policed = ingress.checks(bridge_of(result), settings.ingress_policy) if settings.ingress_policy != OPEN else []
    for family, pods in _by_family(result):
        try:
            missing = iptables.first_missing(family, rules.TABLE, [*rules.checks(pods, settings.admin_chain), *policed])
        except IptablesError as error:
            raise _told(error) from None
        if missing:
            raise CniError(NOT_AS_REPORTED, "a rule of the firewall is missing", missing.replace("-C", "-A", 1))


def gc(request: Request) -> None:
    """Remove the rules of containers that are none of the valid attachments'. Raises CniError (5) when everything was tried."""
    Settings(request)
    valid = [Attachment(request.name, container_id, ifname) for container_id, ifname in request.valid_attachments]
    try:
        iptables.change_both(rules.TABLE, lambda _family, there: rules.stale_removal(request.name, valid, there))
    except IptablesError as error:
        raise _told(error) from None


def status(request: Request) -> None:
    """Tell whether an ADD could be served. Raises CniError: 50 without iptables, 51 when FORWARD does not lead to the rules."""
    Settings(request).check_backend()
    try:
        there = iptables.read(iptables.IPV4, rules.TABLE)
    except IptablesError as error:
        raise CniError(UNAVAILABLE, f"the firewall needs iptables: {error}") from None
    if rules.is_cut_off(there):
        raise CniError(UNAVAILABLE_AND_IMPAIRED, f"{rules.HOOK} does not lead to {rules.ACCEPTING} any more: its rules accept nothing")


def _told(error: Exception, details: str = "") -> CniError:
    return CniError(TRY_AGAIN_LATER if isinstance(error, LockHeldError) else IO_FAILURE, str(error), details)
