"""What decoding every kind of object shares: results, names, and how bad parts are reported.

Owns the vocabulary between decode and the decoders of each kind; knows no kind. Invariant: a Bad ends
the decoding of one object and never leaves decode; a part that is dropped leaves a Refusal behind.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from uproxy.core.addresses import Special, canonical, special
from uproxy.core.model import Family, KubernetesObject, ObjectKey, Refusal, family_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from uproxy.core.wire import WireMeta


class Skipped(Struct, frozen=True, gc=False):
    """An object that is not served, which is nobody's mistake.

    kind: a Kind for an object of the kinds that are read; it is then as if the object did not exist. Anything
    else (also "Service.serving.knative.dev") is a kind that is not read.
    """

    kind: str
    key: ObjectKey
    reason: str


Decoded = KubernetesObject | Refusal | Skipped


class Bad(Exception):
    """A field without which the object cannot be understood, and what would be right."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


class Reading:
    """One object being decoded: its key, the parts refused so far, and the name that this service proxy goes by."""

    def __init__(self, kind: str, key: ObjectKey, proxy_name: str = "") -> None:
        self.kind = kind
        self.key = key
        self.proxy_name = proxy_name
        self.refusals: list[Refusal] = []

    def refuse(self, field: str, reason: str, *, wrong_family: bool = False) -> None:
        """Note a part that is left out while the rest is served."""
        self.refusals.append(Refusal(subject_of(self.kind, self.key), field, reason, wrong_family))

    def skip(self, reason: str) -> Skipped:
        """Give the result for an object that is not to be served."""
        return Skipped(self.kind, self.key, reason)


def subject_of(kind: str, key: ObjectKey) -> str:
    """Name an object in a Refusal."""
    return f"{kind} {key}"


_is_name: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", re.ASCII).fullmatch
_is_port_name: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII).fullmatch
_LONGEST_NAME: Final = 253
_LONGEST_PORT_NAME: Final = 63
_LAST_PORT: Final = 65535

PROXY_NAME: Final = "service.kubernetes.io/service-proxy-name"
HEADLESS: Final = "service.kubernetes.io/headless"


def key_of(meta: WireMeta, *, namespaced: bool) -> ObjectKey:
    """Give an object's key; the namespace is "default" when none is written. Raises Bad."""
    namespace = (meta.namespace or "default") if namespaced else ""
    for field, name in (("metadata.name", meta.name or ""), ("metadata.namespace", namespace or "default")):
        if not name:
            raise Bad(field, "is missing")
        if len(name) > _LONGEST_NAME or not _is_name(name):
            raise Bad(field, f"{name!r} is no name: lower-case letters, digits, '-' and '.', a letter or digit at both ends")
    return ObjectKey(namespace, meta.name or "")


def left_alone(meta: WireMeta, proxy_name: str, *, inherited: bool = False) -> str:
    """Say why a service proxy of this name ("" for the usual one) leaves an object alone; "" if it does not.

    inherited: a slice, whose labels are its Service's where a controller made it, and anything where somebody else did.
    The value of the label is of no matter to a proxy without a name (KEP-2447).
    """
    labels = meta.labels or {}
    if HEADLESS in labels:
        return f"the label {HEADLESS} tells service proxies to leave it alone"
    if not proxy_name:
        return f"the label {PROXY_NAME} tells service proxies to leave it alone" if PROXY_NAME in labels else ""
    if labels.get(PROXY_NAME, proxy_name if inherited else None) == proxy_name:
        return ""
    return f"its label {PROXY_NAME} is not {proxy_name}"


def port_name(name: str, field: str) -> str:
    """Check the name of a port, "" for none. Raises Bad."""
    if name and (len(name) > _LONGEST_PORT_NAME or not _is_port_name(name)):
        raise Bad(field, f"{name!r} is no port name: lower-case letters, digits and '-', a letter or digit at both ends")
    return name


def port_number(number: int | None, field: str) -> int:
    """Check a port's number. Raises Bad."""
    if number is None:
        raise Bad(field, "is missing")
    if not 1 <= number <= _LAST_PORT:
        raise Bad(field, f"must be 1 to {_LAST_PORT}, not {_shown(number)}")
    return number


def _shown(number: int) -> str:
    """Write a number out; hostile ones have more digits than Python is willing to write."""
    return str(number) if abs(number) < 10**12 else "a number beyond all bounds"


def usable_address(text: object, banned: Collection[Special], family: Family | None = None) -> tuple[str, str]:
    """Read an address: its canonical text and "", or "" and the reason why it cannot be used."""
    address = canonical(text) if isinstance(text, str) else None
    if address is None:
        return "", f"{_quoted(text)} is no IP address"
    if family is not None and family_of(address) is not family:
        return "", f"{address} is no IPv{family} address"
    kind = special(address)
    if kind is not None and (kind in banned or (kind is Special.LINK_LOCAL and ":" in address)):
        return "", f"{address} is {_ARTICLES[kind]} {kind} address, which cannot be used here"
    return address, ""


_ARTICLES: Final = {
    Special.UNSPECIFIED: "the",
    Special.BROADCAST: "the",
    Special.MULTICAST: "a",
    Special.LOOPBACK: "a",
    Special.LINK_LOCAL: "a",
}
_LONGEST_QUOTE: Final = 80


def _quoted(value: object) -> str:
    """Show a value of the wrong kind, for text shortened, for anything else by its type."""
    if not isinstance(value, str):
        return "null" if value is None else f"a value of type {type(value).__name__}"
    return repr(value if len(value) <= _LONGEST_QUOTE else value[:_LONGEST_QUOTE] + "...")
