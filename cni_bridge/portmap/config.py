"""The portmap plugin's configuration: every key read once, checked, and refused with key and value.

Pure. Keys, defaults and refusals are those of the reference plugin (its meta/portmap). A container's ports come from the
runtime, in runtimeConfig.portMappings (CONVENTIONS.md), and are read only by the verbs that need them.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.protocol import config as fields
from cni_bridge.protocol.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.config import Config
    from cni_bridge.protocol.skeleton import Request

IPTABLES, NFTABLES = "iptables", "nftables"
_BACKENDS = ("", IPTABLES, NFTABLES)
_PROTOCOLS = ("tcp", "udp", "sctp")
_HIGHEST_PORT = 65535
_MARK_BIT = 13  # Kubernetes uses 14 and 15, Calico 20 to 31
_HIGHEST_BIT = 31
_KEYS = {4: "conditionsV4", 16: "conditionsV6"}


class Mapping:
    """One port. size: the bytes of the addresses that it is for, 0 for either family; host_ip: packed, empty for any."""

    __slots__ = ("container_port", "host_ip", "host_port", "protocol", "size")

    def __init__(self, members: Config, where: str) -> None:
        self.host_port = _port(members, "hostPort", where)
        self.container_port = _port(members, "containerPort", where)
        self.protocol = fields.text(members, "protocol", where).lower()
        if self.protocol not in _PROTOCOLS:
            raise _wrong(f'"{where}protocol" is "{self.protocol}": one of {", ".join(_PROTOCOLS)} is right')
        host_ip = _address(members, "hostIP", where)
        self.size = len(host_ip)
        self.host_ip = host_ip if any(host_ip) else b""

    def is_for(self, address: bytes) -> bool:
        """Tell whether it is for the family of the address."""
        return self.size in {0, len(address)}


class Settings:
    """What the configuration asks for. backend: empty for whichever works; conditions: words, by the bytes of an address."""

    __slots__ = ("_mark_bit", "backend", "conditions", "masq_all", "network", "set_mark_chain", "snat")

    def __init__(self, request: Request) -> None:
        config = request.config
        self.network = request.name
        self.backend = fields.text(config, "backend")
        self.snat = fields.flag(config, "snat", default=True)
        self.masq_all = fields.flag(config, "masqAll")
        self.set_mark_chain = fields.text(config, "externalSetMarkChain")
        self.conditions = {size: _conditions(config, key) for size, key in _KEYS.items()}
        self._mark_bit = fields.integer(config, "markMasqBit", default=_MARK_BIT)
        if self.backend not in _BACKENDS:
            raise _wrong(f'"backend" is "{self.backend}": {IPTABLES} or {NFTABLES} is right')
        if self.set_mark_chain and fields.field(config, "markMasqBit") is not None:
            raise _wrong("Cannot specify externalSetMarkChain and markMasqBit")
        if not 0 <= self._mark_bit <= _HIGHEST_BIT:
            raise _wrong(f'"markMasqBit" is {self._mark_bit}: 0 to {_HIGHEST_BIT} is right')

    @property
    def mark(self) -> str:
        """The mark of packets to masquerade, with its mask."""
        return f"{1 << self._mark_bit:#x}/{1 << self._mark_bit:#x}"

    def check_words(self, backend: str) -> None:
        """Refuse what belongs to the other back end. Raises CniError (7)."""
        words = [(key, _language(self.conditions[size])) for size, key in _KEYS.items()]
        if self.set_mark_chain:
            words.append(("externalSetMarkChain", IPTABLES))
        for key, language in words:
            if language and language != backend:
                raise _wrong(f'the {backend} back end is in use, but "{key}" is for {language}', '"backend" chooses')


def mappings(request: Request) -> list[Mapping]:
    """Read the container's ports. Raises CniError (6 or 7)."""
    where = "runtimeConfig.portMappings"
    runtime = fields.section(request.config, "runtimeConfig")
    found = fields.objects(runtime, "portMappings", "runtimeConfig.")
    return [Mapping(members, f"{where}[{place}].") for place, members in enumerate(found)]


def has_mappings(request: Request) -> bool:
    """Tell whether there are ports, whatever they are."""
    return bool(fields.field(fields.section(request.config, "runtimeConfig"), "portMappings"))


def _port(members: Config, key: str, where: str) -> int:
    value = fields.integer(members, key, where)
    if not 1 <= value <= _HIGHEST_PORT:
        raise _wrong(f'"{where}{key}" is {value}: 1 to {_HIGHEST_PORT} is right')
    return value


def _address(members: Config, key: str, where: str) -> bytes:
    value = fields.text(members, key, where)
    try:
        return addresses.parse(value) if value else b""
    except addresses.AddressError as reason:
        raise _wrong(f'"{where}{key}": {reason}') from None


def _conditions(config: Config, key: str) -> list[str]:
    words = fields.texts(config, key)
    for word in words:
        if not word.isprintable():
            raise _wrong(f'"{key}" has a word with a character that no rule can hold: {word!r}')
    return words


def _language(words: list[str]) -> str:
    """Tell whose conditions they are: those of iptables begin with an option or a negation, those of nftables never."""
    if not words or not words[0]:
        return ""
    return IPTABLES if words[0][0] in "-!" else NFTABLES


def _wrong(message: str, details: str = "") -> CniError:
    return CniError(INVALID_CONFIG, message, details)
