"""What is to be forwarded where, decided from the configuration, the ports and the previous result.

Pure. One `Forwarding` for each family that the container has an address of and ports for.
"""

from __future__ import annotations

from cni_bridge import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.addresses import Network
    from cni_bridge.ownership import Attachment
    from cni_bridge.portmap.config import Mapping, Settings
    from cni_bridge.protocol.results import Ip, Result


class Forwarding:
    """The ports of one container in one family. address: packed; prefix: of the network that it is in."""

    __slots__ = ("address", "attachment", "mappings", "prefix", "settings")

    def __init__(self, attachment: Attachment, settings: Settings, network: Network, mappings: list[Mapping]) -> None:
        self.attachment = attachment
        self.settings = settings
        self.address, self.prefix = network
        self.mappings = mappings

    @property
    def conditions(self) -> list[str]:
        """The words of the family's conditions."""
        return self.settings.conditions[len(self.address)]


def forwardings(attachment: Attachment, settings: Settings, mappings: list[Mapping], result: Result) -> list[Forwarding]:
    """Give one for each family, IPv4 first, with the ports that are for it; a family without ports is left out."""
    found = []
    for network in pod_networks(result, attachment.ifname):
        mine = [mapping for mapping in mappings if mapping.is_for(network[0])]
        if mine:
            found.append(Forwarding(attachment, settings, network, mine))
    return found


def pod_networks(result: Result, ifname: str) -> list[Network]:
    """Give the container's first address of each family; those of other interfaces than its own do not count."""
    found: dict[int, Network] = {}
    for ip in result["ips"]:
        if _may_be_inside(ip, result, ifname):
            network = addresses.parse_cidr(ip["address"])
            found.setdefault(len(network[0]), network)
    return [found[size] for size in sorted(found)]


def _may_be_inside(ip: Ip, result: Result, ifname: str) -> bool:
    """Take an address that does not say its interface, or names one that is not there, for the container's."""
    place = ip.get("interface", -1)
    if not 0 <= place < len(result["interfaces"]):
        return True
    interface = result["interfaces"][place]
    return interface["name"] == ifname and bool(interface.get("sandbox"))


def address_and_port(address: bytes, port: int) -> str:
    """Write an address with a port; an IPv6 address stands in brackets."""
    text = addresses.text(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
