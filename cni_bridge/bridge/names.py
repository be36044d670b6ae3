"""What an attachment's traces in the kernel are called, so that they are found again with nothing but the attachment's name.

Pure. An attachment is a network, a container and an interface. The host's veth gets a name computed from it and an alias
that spells it out: a DEL without namespace and without a previous result finds it in one request.
"""

from __future__ import annotations

_FNV_OFFSET, _FNV_PRIME, _FNV_MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1
_LONGEST_ALIAS = 255  # IFALIASZ of linux/if.h less the final zero
_OWNER = "cni_bridge"


class Attachment:
    """One interface of one container in one network."""

    __slots__ = ("container_id", "ifname", "network")

    def __init__(self, network: str, container_id: str, ifname: str) -> None:
        self.network = network
        self.container_id = container_id
        self.ifname = ifname

    @property
    def alias(self) -> str:
        """Give the alias of its host veth: nobody else's, and ours."""
        whole = f"{network_alias(self.network)}{self.container_id} {self.ifname}"
        if len(whole.encode("utf-8", "surrogateescape")) <= _LONGEST_ALIAS:
            return whole
        return f"{network_alias(self.network)[:100]}~{digest(whole):016x} {self.ifname}"

    def veth(self, attempt: int = 0) -> str:
        """Give the name of its host veth; later attempts are for a name that somebody else has."""
        folded = digest(f"{self.network}\0{self.container_id}\0{self.ifname}\0{attempt}")
        return f"veth{(folded ^ folded >> 32) & 0xFFFFFFFF:08x}"


def network_alias(network: str) -> str:
    """Give what the aliases of all host veths of a network begin with."""
    return f"{_OWNER} {network} "


def digest(text: str) -> int:
    """Give 64 bits (FNV-1a): no secret, and nothing to import."""
    value = _FNV_OFFSET
    for byte in text.encode("utf-8", "surrogateescape"):
        value = (value ^ byte) * _FNV_PRIME & _FNV_MASK
    return value


def shortened(text: str, limit: int) -> str:
    """Give a text of ASCII of at most limit characters, a different one for each longer text."""
    return text if len(text) <= limit else f"{text[: limit - 17]}~{digest(text):016x}"
