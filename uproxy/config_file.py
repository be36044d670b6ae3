"""Where settings come from: environment, a file with one or both of two documents, flags; one Config out of all.

Owns the order (flags over UproxyConfiguration over KubeProxyConfiguration over environment over defaults), reading
the file, and error messages that name the flag, or file, document and field. Knows nothing of what a setting means
(config.py), nor of kube-proxy's fields (kube_proxy_config.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from uproxy import kube_proxy_config
from uproxy.config import Config
from uproxy.config_documents import API_VERSION, KIND
from uproxy.config_rules import Duration
from uproxy.errors import UsageError
from uproxy.kube_proxy_config import Remark, Said, Translation
from uproxy.sources.yaml_reader import Bounds, Malformed, Twice, read_at_once

# Environment variable -> setting: what a container or unit commonly sets without a file.
ENVIRONMENT: Final = {
    "NODE_NAME": "nodeName",
    "UPROXY_MANIFESTS": "manifests",
    "UPROXY_REDIRECT": "redirect",
    "UPROXY_HEALTHZ_BIND_ADDRESS": "healthzBindAddress",
    "UPROXY_METRICS_BIND_ADDRESS": "metricsBindAddress",
}
BOUNDS: Final = Bounds(nodes=100_000, depth=64)
"""What a document may unfold to: a hundred times what all settings come to, and a fraction of a second's work."""
KINDS: Final = {KIND: API_VERSION, kube_proxy_config.KIND: kube_proxy_config.API_VERSION}

_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?$")
_PLACE: Final = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)


class Flags(NamedTuple):
    """What the command line says. own: by setting, with the flag as messages name it; kube_proxy: texts by flag."""

    own: Mapping[str, Said] = {}
    kube_proxy: Mapping[str, str] = {}


class Loaded(NamedTuple):
    """All settings, and what of the sources came to nothing."""

    config: Config
    remarks: list[Remark]


class _Document(NamedTuple):
    """A document of the file without apiVersion and kind; place: file and number; twice: keys that a mapping has more than once."""

    place: str
    settings: dict[str, Any]
    twice: list[str]


def load(path: str, environ: Mapping[str, str], flags: Flags | None = None) -> Loaded:
    """Give the Config of the file at path ("" for none) and flags over environ, and what was passed over.

    Raises UsageError naming the flag, the environment variable, or the file, document and field.
    """
    flags = flags or Flags()
    remarks: list[Remark] = []
    found = _read(path, remarks) if path else {}
    of_flags = kube_proxy_config.of_flags(flags.kube_proxy)
    document = _kube_proxy_document(found.get(kube_proxy_config.KIND))
    remarks += document.remarks + of_flags.remarks
    own = dict(_settings(found[KIND])) if KIND in found else {}
    layers = (document.derived, of_flags.derived, _ambient(environ), document.settings, own, of_flags.settings, flags.own)
    said = {setting: one for layer in layers for setting, one in layer.items()}
    _check_cluster_cidr(said, remarks)
    return Loaded(_convert(said), remarks)


def _ambient(environ: Mapping[str, str]) -> dict[str, Said]:
    ambient = {setting: Said(environ[name].strip(), name) for name, setting in ENVIRONMENT.items() if environ.get(name, "").strip()}
    if "nodeName" in ambient:
        ambient["nodeName"] = ambient["nodeName"]._replace(value=ambient["nodeName"].value.lower())
    return ambient


def _kube_proxy_document(document: _Document | None) -> Translation:
    if document is None:
        return Translation()
    translation = kube_proxy_config.of_document(document.settings, document.place)
    translation.remarks += [Remark(document.place, f"{key} is there twice: the last one counts") for key in document.twice]
    return translation


def _settings(document: _Document) -> Iterator[tuple[str, Said]]:
    """Give the settings of our own document by dotted name. One mistake in it is an error: it was written for us."""
    if document.twice:
        raise UsageError(f"{document.place}: {document.twice[0]} is there twice")
    yield from _flat(document.settings, document.place, "")


def _flat(settings: dict[str, Any], place: str, prefix: str) -> Iterator[tuple[str, Said]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, place, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", Said(value, f"{place}: {prefix}{name}")


def _check_cluster_cidr(said: dict[str, Said], remarks: list[Remark]) -> None:
    """Take back the mode ClusterCIDR where no CIDR is said, as kube-proxy does with a warning: it is its default."""
    mode = said.get("detectLocalMode")
    if mode is not None and mode.value == "ClusterCIDR" and not said.get("clusterCidrs", Said((), "")).value:
        said["detectLocalMode"] = Said("", mode.place)
        remarks.append(Remark(mode.place, "ClusterCIDR has no effect without a cluster CIDR: pods are told by the Node's podCIDRs"))


def _read(path: str, remarks: list[Remark]) -> dict[str, _Document]:
    """Give the documents by kind, and remark those of other kinds."""
    found: dict[str, _Document] = {}
    for number, (document, twice) in enumerate(_documents(path), start=1):
        place = f"{path}, document {number}"
        if document is None:
            continue
        if not isinstance(document, dict):
            raise UsageError(f"--config {place}: is not a mapping of settings")
        api_version, kind = document.pop("apiVersion", None), document.pop("kind", None)
        if kind is None:
            raise UsageError(f"--config {place}: says no kind (write kind: {KIND} and apiVersion: {API_VERSION} at its beginning)")
        if not isinstance(kind, str) or kind not in KINDS:
            remarks.append(Remark(place, f"{api_version} {kind} is not read (the kinds are {' and '.join(KINDS)})"))
        elif api_version != KINDS[kind]:
            raise UsageError(f"--config {place}: apiVersion: {api_version!r} is not known (write {KINDS[kind]})")
        elif kind in found:
            first = found[kind].place.rpartition(" ")[2]
            raise UsageError(f"--config {path}: documents {first} and {number} are both of kind {kind}: one is allowed")
        else:
            found[kind] = _Document(place, document, twice)
    if not found:
        raise UsageError(f"--config {path}: holds no document of kind {' or '.join(KINDS)}")
    return found


def _documents(path: str) -> Iterator[tuple[Any, list[str]]]:
    """Give each document and its duplicate keys."""
    twice: list[Twice] = []
    try:
        found = read_at_once(Path(path).read_text(encoding="utf-8"), BOUNDS, twice)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--config {path}: is not UTF-8 (byte {error.start})") from error
    except Malformed as error:
        raise UsageError(f"--config {path}, line {error.line}: {error.reason}") from error
    for number, document in enumerate(found):
        yield document, [f"{one.key} (line {one.line})" for one in twice if one.before == number]


def _convert(said: Mapping[str, Said]) -> Config:
    """Make a Config of settings by dotted name."""
    nested: dict[str, Any] = {}
    for setting, one in said.items():
        *groups, name = setting.split(".")
        where: Any = nested
        for group in groups:
            where = where.setdefault(group, {})
            if not isinstance(where, dict):  # a group that is said to be a number, say: the conversion has the word
                break
        else:
            where[name] = where.get(name, {}) if one.value == {} else one.value
    try:
        return msgspec.convert(nested, Config, dec_hook=_decode)
    except msgspec.ValidationError as error:
        setting, reason = _explain(str(error))
        raise UsageError(f"{_place_of(setting, said)}: {reason}") from error


def _place_of(setting: str, said: Mapping[str, Said]) -> str:
    """Give where a setting, an item of it, or else something in its group was said."""
    bare = setting.partition("[")[0]
    group = bare.rpartition(".")[0]
    one = said.get(bare) or said.get(group) or next((one for name, one in said.items() if name.startswith(f"{bare}.")), None)
    if one is not None:
        return one.place + setting.removeprefix(bare)
    near = next((one for name, one in said.items() if group and name.startswith(f"{group}.")), None)
    return setting if near is None else f"{near.place}: {setting}"


def _explain(message: str) -> tuple[str, str]:
    """Take the setting and the reason out of the decoder's message."""
    unknown = _UNKNOWN.match(message)
    if unknown:
        return ".".join(filter(None, (unknown["path"], unknown["field"]))), "is not a setting (docs/configuration.md lists them)"
    placed = _PLACE.match(message)
    if placed and placed["path"]:
        return placed["path"], placed["what"]
    setting, _, reason = message.partition(": ")
    return setting, placed["what"].partition(": ")[2] if placed else reason


def _decode(wanted: type, value: object) -> object:
    if wanted is Duration and isinstance(value, Duration):
        return value
    if wanted is Duration and isinstance(value, str):
        return Duration.parse(value)
    raise ValueError(f"{value!r} is not a duration (write it like 250ms, 30s or 1h30m)")
