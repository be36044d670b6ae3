"""The firewall plugin's configuration: every key read once, checked, and refused with key and value.

Pure. Keys and defaults are those of the reference plugin (its meta/firewall), whose firewalld back end is not here.
"""

from __future__ import annotations

from cni_bridge.protocol import config as fields
from cni_bridge.protocol.environment import check_interface_name
from cni_bridge.protocol.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request

OPEN, SAME_BRIDGE, ISOLATED = "open", "same-bridge", "isolated"
_POLICIES = ("", OPEN, SAME_BRIDGE, ISOLATED)
_BACKENDS = ("", "iptables")
_LONGEST_CHAIN = 28  # XT_EXTENSION_MAXNAMELEN less the final zero


class Settings:
    """What the configuration asks for. ingress_policy: OPEN, SAME_BRIDGE or ISOLATED."""

    __slots__ = ("admin_chain", "backend", "ingress_policy")

    def __init__(self, request: Request) -> None:
        config = request.config
        self.backend = fields.text(config, "backend")
        self.admin_chain = fields.text(config, "iptablesAdminChainName") or "CNI-ADMIN"
        self.ingress_policy = fields.text(config, "ingressPolicy") or OPEN
        if self.ingress_policy not in _POLICIES:
            raise _wrong(f'"ingressPolicy" is "{self.ingress_policy}": {OPEN}, {SAME_BRIDGE} or {ISOLATED} is right')
        if len(self.admin_chain) > _LONGEST_CHAIN or not self.admin_chain.isprintable() or " " in self.admin_chain:
            raise _wrong(f'"iptablesAdminChainName" is "{self.admin_chain}": up to {_LONGEST_CHAIN} characters without spaces are right')

    def check_backend(self) -> None:
        """Refuse a back end that is not here; DEL and GC do not ask, for there is nothing that it could have added.

        Raises CniError (7).
        """
        if self.backend not in _BACKENDS:
            raise _wrong(f'"backend" is "{self.backend}": iptables is right', "firewalld is served by the reference plugin alone")


def bridge_of(result: Result) -> str:
    """Give the interface that an ingress policy is about: the first one of the result. Raises CniError (7)."""
    name = result["interfaces"][0]["name"] if result["interfaces"] else ""
    if not name:
        raise _wrong('"ingressPolicy" needs an interface in "prevResult": the plugin is to be chained after bridge')
    try:
        check_interface_name(name)
    except CniError as error:
        raise _wrong(f'the first interface of "prevResult" is "{name}": {error.msg}') from None
    return name


def _wrong(message: str, details: str = "") -> CniError:
    return CniError(INVALID_CONFIG, message, details)
