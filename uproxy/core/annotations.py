"""The annotations uproxy.io/... of a Service -> ServiceOptions: what only a proxy in user space can do for it.

Owns their names, values and limits; must not know what follows from them. Invariant: a value that cannot be read
refuses its own annotation and nothing else, and what is not written is off.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from uproxy.core.durations import seconds_of
from uproxy.core.model import NO_OPTIONS, ServiceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uproxy.core.reading import Reading

PREFIX: Final = "uproxy.io/"
KEEP_CLIENT_ADDRESS: Final = "uproxy.io/keep-client-address"
LONGEST: Final = 720 * 3600.0
"""Seconds: thirty days. Whoever writes more has mistaken the unit."""
SHORTEST: Final = 0.001
_is_number: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII).fullmatch


def options_of(annotations: Mapping[object, object], reading: Reading) -> ServiceOptions:
    """Read the options of one Service; refuse the annotations that cannot be read, each with its reason."""
    found: dict[str, Any] = {}
    for name, value in annotations.items():
        if not isinstance(name, str) or not name.startswith(PREFIX) or name == KEEP_CLIENT_ADDRESS:
            continue
        known = _READERS.get(name)
        if known is None:
            reading.refuse(annotation_field(name), f"there is no such annotation; there are {', '.join(NAMES)}")
            continue
        attribute, read = known
        try:
            found[attribute] = read(value if isinstance(value, str) else "")
        except ValueError as error:
            reading.refuse(annotation_field(name), f"{error}; the Service is served without it")
    return ServiceOptions(**found) if found else NO_OPTIONS


def annotation_field(name: str) -> str:
    """Name an annotation in a Refusal."""
    return f"metadata.annotations[{name}]"


def is_annotation(refused: str) -> bool:
    """Tell whether the field of a Refusal is an annotation."""
    return refused.startswith("metadata.annotations[")


def _duration(text: str) -> float:
    seconds = seconds_of(text)
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"must be 1ms to 720h, not {text}")
    return seconds


def _least_connections(text: str) -> bool:
    if text not in {"least-connections", "round-robin"}:
        raise ValueError("must be least-connections or round-robin")
    return text == "least-connections"


def _proxy_protocol(text: str) -> int:
    if text not in {"v1", "v2"}:
        raise ValueError("must be v1 or v2")
    return int(text[1])


def _number(text: str) -> int:
    if not _is_number(text):
        raise ValueError("must be a number of connections, 1 to 999999999, in digits")
    return int(text)


_READERS: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "uproxy.io/balance": ("least_connections", _least_connections),
    "uproxy.io/drain": ("drain", _duration),
    "uproxy.io/proxy-protocol": ("proxy_protocol", _proxy_protocol),
    "uproxy.io/hold": ("hold", _duration),
    "uproxy.io/max-connections": ("max_connections", _number),
    "uproxy.io/idle-timeout": ("idle_timeout", _duration),
}
NAMES: Final = (*_READERS, KEEP_CLIENT_ADDRESS)
"""All annotations that are read."""
