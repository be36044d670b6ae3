"""The bridge plugin's configuration: every key read once, checked, and refused with key and value.

Pure. Knows what combinations make sense, not how they are carried out. Keys, defaults and most refusals are those of the
reference plugin (its main/bridge); "podPrefix" is ours alone.
"""

from __future__ import annotations

from cni_bridge.protocol import config as fields
from cni_bridge.protocol.dns import read_dns
from cni_bridge.protocol.environment import check_interface_name, parse_args
from cni_bridge.protocol.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.config import Config
    from cni_bridge.protocol.skeleton import Request

HIGHEST_VLAN = 4094
_HIGHEST_MTU = 65535
_LONGEST_NAME = 15
_BACKENDS = ("", "nftables", "iptables")


class Settings:
    """What the configuration asks for. trunk: None without the key, else VLAN IDs in order; mac: 6 bytes or empty."""

    __slots__ = (
        "bridge", "disable_container_interface", "dns", "enabledad", "force_address", "hairpin", "ip_masq", "ip_masq_backend", "ipam",
        "is_default_gateway", "is_gateway", "mac", "mac_spoof_check", "mtu", "network", "pod_prefix_is_host", "port_isolation",
        "preserve_default_vlan", "promiscuous", "trunk", "vlan",
    )  # fmt: skip

    def __init__(self, request: Request) -> None:
        config = request.config
        self.network = request.name
        self.bridge = fields.text(config, "bridge") or "cni0"
        self.is_default_gateway = fields.flag(config, "isDefaultGateway")
        self.is_gateway = fields.flag(config, "isGateway") or self.is_default_gateway
        self.force_address = fields.flag(config, "forceAddress")
        self.ip_masq = fields.flag(config, "ipMasq")
        self.ip_masq_backend = fields.text(config, "ipMasqBackend")
        self.mtu = fields.integer(config, "mtu")
        self.hairpin = fields.flag(config, "hairpinMode")
        self.promiscuous = fields.flag(config, "promiscMode")
        self.vlan = fields.integer(config, "vlan")
        self.trunk = _trunk(config)
        self.preserve_default_vlan = fields.flag(config, "preserveDefaultVlan")
        self.mac_spoof_check = fields.flag(config, "macspoofchk")
        self.enabledad = fields.flag(config, "enabledad")
        self.disable_container_interface = fields.flag(config, "disableContainerInterface")
        self.port_isolation = fields.flag(config, "portIsolation")
        self.pod_prefix_is_host = _pod_prefix(config)
        self.ipam = fields.text(fields.section(config, "ipam"), "type", "ipam.")
        self.dns = read_dns(config)
        self.mac = _mac(request)
        self._check(request.version)

    @property
    def filters_vlans(self) -> bool:
        """Tell whether the bridge must tell VLANs apart; an empty trunk asks for it too."""
        return self.vlan != 0 or self.trunk is not None

    @property
    def gateway_interface(self) -> str:
        """The interface that holds the gateway's addresses: the bridge, or its own leg in the VLAN."""
        return f"{self.bridge}.{self.vlan}" if self.vlan else self.bridge

    def _check(self, version: str) -> None:
        _check_name(self.bridge)
        _check_range(self.mtu, "mtu", _HIGHEST_MTU)
        if not 0 <= self.vlan <= HIGHEST_VLAN:
            raise wrong(f'invalid VLAN ID {self.vlan} in "vlan" (must be between 0 and {HIGHEST_VLAN})')
        if self.ip_masq_backend not in _BACKENDS:
            raise wrong(f'"ipMasqBackend" is "{self.ip_masq_backend}": nftables or iptables is right')
        if self.hairpin and self.promiscuous:
            raise wrong("cannot set hairpin mode and promiscuous mode at the same time", '"hairpinMode" and "promiscMode" are both true')
        self._check_combinations(version)

    def _check_combinations(self, version: str) -> None:
        if self.disable_container_interface and self.ipam:
            raise wrong("cannot use IPAM when DisableContainerInterface flag is set", f'"ipam.type" is "{self.ipam}"')
        if not self.ipam and version in {"0.1.0", "0.2.0"}:
            raise wrong(f'cniVersion "{version}" has no results without an address', '"ipam.type" is missing')
        if self.pod_prefix_is_host and not (self.is_gateway and self.ipam):
            raise wrong('"podPrefix" is "host": that needs "isGateway" and "ipam", for the gateway is all that a pod can reach directly')
        if self.vlan and self.is_gateway and len(self.gateway_interface) > _LONGEST_NAME:
            raise wrong(f'"bridge" and "vlan" make the interface name "{self.gateway_interface}": {_LONGEST_NAME} characters are the most')


def _pod_prefix(config: Config) -> bool:
    value = fields.text(config, "podPrefix")
    if value not in {"", "host"}:
        raise wrong(f'"podPrefix" is "{value}": "host" is the only value, or no such key')
    return value == "host"


def _check_name(name: str) -> None:
    try:
        check_interface_name(name)
    except CniError as error:
        raise wrong(f'"bridge" is "{name}": {error.msg}', error.details) from None


def _check_range(value: int, key: str, highest: int) -> None:
    if not 0 <= value <= highest:
        raise wrong(f'"{key}" is {value}: 0 to {highest} is right')


def wrong(message: str, details: str = "") -> CniError:
    """Make the error for a value that is of the right kind and wrong."""
    return CniError(INVALID_CONFIG, message, details)


def _trunk(config: Config) -> tuple[int, ...] | None:
    if fields.field(config, "vlanTrunk") is None:
        return None
    from cni_bridge.bridge import values  # noqa: PLC0415 - every import costs, and few configurations have such a key

    return values.trunk(config)


def _mac(request: Request) -> bytes:
    """Give the wanted MAC: of CNI_ARGS, args.cni and runtimeConfig the last that says one (CONVENTIONS.md)."""
    args = fields.section(fields.section(request.config, "args"), "cni", "args.")
    runtime = fields.section(request.config, "runtimeConfig")
    said = [
        ("CNI_ARGS MAC", parse_args(request.args, ("MAC",)).get("MAC", "")),
        ("args.cni.mac", fields.text(args, "mac", "args.cni.")),
        ("runtimeConfig.mac", fields.text(runtime, "mac", "runtimeConfig.")),
    ]
    wanted = [(key, value) for key, value in said if value]
    if not wanted:
        return b""
    from cni_bridge.bridge import values  # noqa: PLC0415 - as above

    key, value = wanted[-1]
    return values.parse_mac(value, key)
