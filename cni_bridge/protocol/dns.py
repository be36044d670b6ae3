"""The "dns" section, which results and configurations have alike.

Owns its reading; its shape is `results.Dns`.
"""

from __future__ import annotations

from cni_bridge.protocol import config as fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_bridge.protocol.json_codec import Json
    from cni_bridge.protocol.results import Dns


def read_dns(members: Mapping[str, Json], where: str = "") -> Dns:
    """Read the "dns" section of a result or a configuration: what is set of it."""
    section = fields.section(members, "dns", where)
    dns: Dns = {}
    if nameservers := fields.texts(section, "nameservers", where + "dns."):
        dns["nameservers"] = nameservers
    if domain := fields.text(section, "domain", where + "dns."):
        dns["domain"] = domain
    if search := fields.texts(section, "search", where + "dns."):
        dns["search"] = search
    if options := fields.texts(section, "options", where + "dns."):
        dns["options"] = options
    return dns
