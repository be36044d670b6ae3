"""KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) and kube-proxy's flags -> settings of ours, and what is to be said of them.

Owns reading values by the table (kube_proxy_fields.py): types, validation, what a field sets, which remark it earns.
Decodes as kube-proxy does: strictly, and what only a strict reader objects to (unknown and duplicate keys) is a
remark. Knows nothing of files nor of other sources of settings. Invariant: every field that was given has been
checked, and either sets something, is kube-proxy's default, or is in a remark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct, field

from uproxy.config_rules import Duration
from uproxy.errors import UsageError
from uproxy.kube_proxy_fields import BY_PATH, FIELDS, Field

API_VERSION: Final = "kubeproxy.config.k8s.io/v1alpha1"
KIND: Final = "KubeProxyConfiguration"

ALSO: Final = {"udpIdleTimeout": "udp.unansweredTimeout"}
"""A second setting that a field sets: kube-proxy had one timeout for flows, answered or not."""
ZERO_IS_UNSET: Final = frozenset({"clientConnection.qps", "clientConnection.burst"})
GROUPS: Final = frozenset(path.rpartition(".")[0] for path in BY_PATH if "." in path)
DEALT_WITH: Final = frozenset({"mode", "iptables.localhostNodePorts"})
"""Fields that set nothing by themselves and still have their effect."""
DERIVED: Final = {"iptables.localhostNodePorts": "nodePortAddresses"}
"""Fields that change the default of a setting."""
SYNC_PERIOD: Final = Duration(30)
"""kube-proxy's default, which minSyncPeriod must not exceed either."""
ADDRESSES: Final = ((4, "0.0.0.0:10256", "127.0.0.1:10249"), (6, "[::]:10256", "[::1]:10249"))


class Remark(NamedTuple):
    """What the operator should know of: where it stands, and why nothing comes of it."""

    place: str
    reason: str


class Said(NamedTuple):
    """A setting's value, and where the operator said so, as messages name it."""

    value: Any
    place: str


class Translation(Struct):
    """settings: what was said, by the setting's name. derived: what follows from it where nobody says anything of that setting."""

    settings: dict[str, Said] = field(default_factory=dict)
    derived: dict[str, Said] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)


def of_document(document: Mapping[str, Any], place: str) -> Translation:
    """Translate a document without its apiVersion and kind; place names file and document. Raises UsageError."""
    translation = Translation()
    given = {}
    for path, value in _leaves(document, place, translation.remarks):
        known = BY_PATH[path]
        read = _read(known, value, f"{place}: {path}")
        if not _is_unset(known, read):
            given[known.name] = (known, read, f"{place}: {path}")
    return _translate(given, translation)


def of_flags(texts: Mapping[str, str]) -> Translation:
    """Translate flags, by name without dashes. What is empty or 0 was meant so. Raises UsageError."""
    given = {}
    for known in FIELDS:
        text = texts.get(known.flag) if known.flag else None
        if text is not None:
            place = f"-{known.flag}" if len(known.flag) == 1 else f"--{known.flag}"
            given[known.name] = (known, _read(known, _from_text(known, text, place), place), place)
    return _translate(given, Translation())


def _leaves(document: Mapping[str, Any], place: str, remarks: list[Remark], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the fields of the table with their values; what is none of them is remarked."""
    for key, value in document.items():
        path = f"{prefix}{key}"
        if path in BY_PATH:
            yield path, value
        elif path not in GROUPS:
            remarks.append(Remark(f"{place}: {path}", f"is no field of {KIND} {API_VERSION}"))
        elif isinstance(value, dict):
            yield from _leaves(value, place, remarks, f"{path}.")
        elif value is not None:
            raise UsageError(f"{place}: {path}: must be a mapping, not {value!r}")


TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "text": ((str,), "a text"),
    "switch": ((bool,), "true or false"),
    "number": ((int,), "a whole number"),
    "decimal": ((int, float), "a number"),
    "duration": ((str,), "a duration (write it like 250ms, 30s or 1h30m)"),
    "list": ((list,), "a list of texts"),
    "map": ((dict,), "a mapping"),
}


def _read(known: Field, value: Any, place: str) -> Any:  # noqa: ANN401 - any value of a document
    """Check the type of a value and give it, a duration as such; None is unset."""
    if value is None or known.kind == "any":
        return value
    wanted, words = TYPES[known.kind]
    right = isinstance(value, wanted) and (known.kind == "switch" or not isinstance(value, bool))
    if not right or (known.kind == "list" and not all(isinstance(each, str) for each in value)):
        raise UsageError(f"{place}: {value!r} is not {words}")
    return _duration(value, place) if known.kind == "duration" else value


def _duration(text: str, place: str) -> Duration:
    """Read a duration that may be negative, so that the check of its field has the word."""
    try:
        return Duration(-Duration.parse(text[1:])) if text.startswith("-") else Duration.parse(text.removeprefix("+"))
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from error


def _from_text(known: Field, text: str, place: str) -> Any:  # noqa: ANN401 - any value of a document
    """Read a flag's text as Go's pflag does."""
    try:
        return _PARSERS.get(known.kind, str)(text.strip() if known.kind in {"number", "decimal", "switch"} else text)
    except (ValueError, KeyError):
        raise UsageError(f"{place}: {text!r} is not {TYPES[known.kind][1]}") from None


SWITCHES: Final = {text: text[0] in "1tT" for text in ["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"]}
"""What Go's strconv.ParseBool takes."""


def _pairs(text: str) -> dict[str, bool]:
    return {name.strip(): SWITCHES[value.strip()] for name, _, value in (pair.partition("=") for pair in text.split(",") if pair.strip())}


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "switch": SWITCHES.__getitem__,
    "number": lambda text: int(text, 0),
    "decimal": float,
    "list": lambda text: [part.strip() for part in text.split(",") if part.strip()],
    "map": _pairs,
}


def _is_unset(known: Field, value: Any) -> bool:  # noqa: ANN401 - any value of a document
    """Tell whether kube-proxy would take its default: for null, for what is empty, for a duration of 0."""
    if value is None or value in ("", [], {}):
        return True
    return value == 0 and (isinstance(value, Duration) or known.path in ZERO_IS_UNSET)


Given = Mapping[str, tuple[Field, Any, str]]


def _translate(given: Given, translation: Translation) -> Translation:
    for known, value, place in given.values():
        reason = known.check(value) if known.check is not None else ""
        if reason:
            raise UsageError(f"{place}: {reason}")
    _check_periods(given)
    for known in FIELDS:  # in the table's order: the first of two fields for one setting is stronger
        if known.name in given:
            _, value, place = given[known.name]
            _settle(known, value, place, translation)
    _derive(given, translation)
    return translation


def _check_periods(given: Given) -> None:
    for group in ("iptables", "nftables"):
        if f"{group}.minSyncPeriod" in given:
            _, least, place = given[f"{group}.minSyncPeriod"]
            _, period, _ = given.get(f"{group}.syncPeriod", (None, SYNC_PERIOD, ""))
            if least > period:
                raise UsageError(f"{place}: {least.text()} is longer than {group}.syncPeriod ({period.text()})")


def _settle(known: Field, value: Any, place: str, translation: Translation) -> None:  # noqa: ANN401 - any value of a document
    """Set what a field sets, or remark that it sets nothing."""
    settings = [name for name in (known.setting, ALSO.get(known.path, "")) if name]
    if not settings:
        if known.path not in DEALT_WITH and not _asks_nothing(known, value):
            translation.remarks.append(Remark(place, f"has no effect: {known.meaning}"))
        return
    settled = known.becomes(value) if known.becomes else value
    for setting in settings if settled is not None else ():
        former = translation.settings.setdefault(setting, Said(settled, place))
        if former.value != settled:
            translation.remarks.append(Remark(place, f"has no effect: {former.place} says otherwise and is stronger"))


def _asks_nothing(known: Field, value: Any) -> bool:  # noqa: ANN401 - any value of a document
    """Tell whether a value is kube-proxy's default or zero: programs write out every field."""
    default = Duration.parse(known.default) if known.kind == "duration" else known.default
    return value in (default, *known.harmless) or _is_zero(value)


def _is_zero(value: Any) -> bool:  # noqa: ANN401 - any value of a document
    if isinstance(value, dict):
        return all(map(_is_zero, value.values()))
    return not value or value in ("0", "0s")


def _derive(given: Given, translation: Translation) -> None:
    """Add what kube-proxy's own defaults make of other fields."""
    settings, derived = translation.settings, translation.derived
    if "bindAddress" in given and ":" in given["bindAddress"][1]:
        place = given["bindAddress"][2]
        derived.update(healthzBindAddress=Said("[::]:10256", place), metricsBindAddress=Said("[::1]:10249", place))
    if "iptables.localhostNodePorts" in given and given["iptables.localhostNodePorts"][1]:
        derived["nodePortAddresses"] = Said(["primary", "localhost"], given["iptables.localhostNodePorts"][2])
    if settings.get("clusterCidrs", Said([], "")).value:
        derived["detectLocalMode"] = Said("ClusterCIDR", settings["clusterCidrs"].place)
