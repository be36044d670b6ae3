"""Whose a rule is, in few characters: what comments of rules say, so that DEL and GC find them with the name alone.

Pure. An attachment is an interface of a container in a network. Its identity is made of two hashes, so that all of a
network's begin alike and one fits where comments are short.
"""

from __future__ import annotations

_HASH_CHARACTERS = 16


def sha512(text: str) -> str:
    """Hash without hashlib, which loads OpenSSL: 128 hexadecimal digits."""
    for name in ("_sha512", "_sha2", "hashlib"):  # up to Python 3.11, from 3.12 on, and everywhere
        try:
            hashed = __import__(name).sha512
        except ImportError:
            continue
        return str(hashed(text.encode("utf-8", "surrogateescape")).hexdigest())
    raise RuntimeError("no module of this interpreter knows SHA-512")


def network_identity(network: str) -> str:
    """Give what the identities of all of a network's attachments begin with."""
    return f"{sha512(network)[:_HASH_CHARACTERS]}-"


class Attachment:
    """One interface of one container in one network."""

    __slots__ = ("container_id", "ifname", "network")

    def __init__(self, network: str, container_id: str, ifname: str) -> None:
        self.network = network
        self.container_id = container_id
        self.ifname = ifname

    @property
    def identity(self) -> str:
        """Give 33 characters that no other attachment has."""
        return network_identity(self.network) + sha512(f"{self.ifname}:{self.container_id}")[:_HASH_CHARACTERS]

    def note(self, limit: int) -> str:
        """Give a comment of at most limit characters: the identity, then names for people to read."""
        return f"{self.identity} net: {self.network} id: {self.container_id}"[:limit]


def identity_of(note: str) -> str:
    """Read the identity from a comment that `note` gave."""
    return note.split(" ", 1)[0]
