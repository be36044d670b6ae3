"""The CNI_* variables of one request: read once, checked as the verb demands.

Owns which variable is required for which verb and what it may hold (specification, section 2, "Parameters"); must not
know the configuration. CNI_PATH is asked for by whoever executes another plugin: the specification calls it optional.
"""

from __future__ import annotations

from cni_bridge.protocol.errors import INVALID_ENVIRONMENT, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_LONGEST_INTERFACE_NAME = 15  # IFNAMSIZ of linux/if.h less the final zero
_NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Environment:
    """The variables as text; bytes that are no UTF-8 are kept as surrogate escapes. A missing one is empty."""

    __slots__ = ("args", "command", "container_id", "ifname", "netns", "netns_override", "path", "variables")

    def __init__(self, variables: Mapping[bytes, bytes]) -> None:
        def read(name: bytes) -> str:
            return variables.get(name, b"").decode("utf-8", "surrogateescape")

        self.variables = variables
        self.command = read(b"CNI_COMMAND")
        self.container_id = read(b"CNI_CONTAINERID")
        self.netns = read(b"CNI_NETNS")
        self.ifname = read(b"CNI_IFNAME")
        self.args = read(b"CNI_ARGS")
        self.path = read(b"CNI_PATH")
        self.netns_override = read(b"CNI_NETNS_OVERRIDE").lower() in {"1", "true"}

    def check(self) -> None:
        """Refuse what the verb needs and does not have, or has with a wrong value. Raises CniError (4).

        A wrong value is reported before missing names, and missing names together, as the reference implementation does.
        """
        missing = []
        for name, value, verbs, check in (
            ("CNI_COMMAND", self.command, (self.command,), None),
            ("CNI_CONTAINERID", self.container_id, _ATTACHMENT_VERBS, check_container_id),
            ("CNI_NETNS", self.netns, _NAMESPACE_VERBS, None),
            ("CNI_IFNAME", self.ifname, _ATTACHMENT_VERBS, check_interface_name),
        ):
            _check_variable(value, check if self.command in verbs else None)
            if not value and self.command in verbs:
                missing.append(name)
        if missing:
            raise CniError(INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")


_ATTACHMENT_VERBS = ("ADD", "CHECK", "DEL")
_NAMESPACE_VERBS = ("ADD", "CHECK")


def _check_variable(value: str, check: Callable[[str], None] | None) -> None:
    if value and check is not None:
        check(value)


def is_name(text: str) -> bool:
    """Tell whether a container ID or a network's name is made as both must be: [a-zA-Z0-9][a-zA-Z0-9_.-]*."""
    return text.isascii() and text[:1].isalnum() and _NAME_CHARACTERS.issuperset(text.encode())


def check_container_id(container_id: str) -> None:
    """Refuse a container ID that is not made as the specification demands. Raises CniError (4)."""
    if not is_name(container_id):
        raise CniError(INVALID_ENVIRONMENT, "invalid characters in containerID", container_id)


def check_interface_name(name: str) -> None:
    """Refuse what Linux does not take as the name of an interface (dev_valid_name). Raises CniError (4)."""
    if len(name.encode("utf-8", "surrogateescape")) > _LONGEST_INTERFACE_NAME:
        right = f"interface name should be less than {_LONGEST_INTERFACE_NAME + 1} characters"
        raise CniError(INVALID_ENVIRONMENT, "interface name is too long", right)
    if name in {".", ".."}:
        raise CniError(INVALID_ENVIRONMENT, "interface name is . or ..")
    if any(character in "/:" or character.isspace() for character in name):
        raise CniError(INVALID_ENVIRONMENT, "interface name contains / or : or whitespace characters", name)


def parse_args(args: str, known: Collection[str]) -> dict[str, str]:
    """Give the wanted keys of CNI_ARGS ("K=V;K=V", CONVENTIONS.md of the specification).

    Raises CniError (4) for a pair without exactly one "=", and for keys that are not known unless IgnoreUnknown is 1 or
    true. The keys are case-sensitive.
    """
    pairs: dict[str, str] = {}
    for pair in args.split(";") if args else ():
        key, equals, value = pair.partition("=")
        if not equals or "=" in value:
            raise CniError(INVALID_ENVIRONMENT, f'ARGS: invalid pair "{pair}"', "CNI_ARGS is K=V;K=V")
        pairs[key] = value
    unknown = [f"{key}={value}" for key, value in pairs.items() if key not in known and key != "IgnoreUnknown"]
    if unknown and not _is_true(pairs.get("IgnoreUnknown", "")):
        listed = " ".join(f'"{pair}"' for pair in unknown)
        raise CniError(INVALID_ENVIRONMENT, f"ARGS: unknown args [{listed}]", "IgnoreUnknown=1 in CNI_ARGS lets them pass")
    return {key: value for key, value in pairs.items() if key in known}


def _is_true(text: str) -> bool:
    """Read IgnoreUnknown: 1, true, 0, false or nothing. Raises CniError (4)."""
    if text.lower() not in {"1", "true", "0", "false", ""}:
        raise CniError(INVALID_ENVIRONMENT, f'ARGS: IgnoreUnknown="{text}" is neither true nor false')
    return text.lower() in {"1", "true"}
