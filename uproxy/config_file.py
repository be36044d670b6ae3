"""Reading settings from a file of YAML documents and from the environment.

Owns the order files over environment over defaults, and error messages that name the file, document and
field. Knows nothing of flags (cli.py) nor of what a setting means (config.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from uproxy.config import Config
from uproxy.config_rules import Duration
from uproxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

API_VERSION: Final = "uproxy.io/v1alpha1"
KIND: Final = "UproxyConfiguration"

# Environment variable -> setting: what a container or unit commonly sets without a file.
ENVIRONMENT: Final = {
    "NODE_NAME": "nodeName",
    "UPROXY_MANIFESTS": "manifests",
    "UPROXY_REDIRECT": "redirect",
    "UPROXY_HEALTHZ_BIND_ADDRESS": "healthzBindAddress",
    "UPROXY_METRICS_BIND_ADDRESS": "metricsBindAddress",
}

_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?$")
_PLACE: Final = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)


def load(path: str, environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    """Give the Config of the file at path ("" for none) over environ, and the documents in it that were passed over.

    Raises UsageError naming the file, document and field, or the environment variable.
    """
    ambient = {setting: environ[name].strip() for name, setting in ENVIRONMENT.items() if environ.get(name, "").strip()}
    if "nodeName" in ambient:
        ambient["nodeName"] = ambient["nodeName"].lower()
    _convert(ambient, lambda setting: next((name for name, own in ENVIRONMENT.items() if own == setting), setting))
    if not path:
        return _convert(ambient, str), []
    settings, number, others = _read(path)
    return _convert({**ambient, **settings}, lambda field: f"{path}, document {number}: {field}"), others


def _read(path: str) -> tuple[dict[str, Any], int, list[str]]:
    """Find the one document of ours, its number, and names of the others."""
    found: dict[int, dict[str, Any]] = {}
    others: list[str] = []
    for number, document in enumerate(_documents(path), start=1):
        if document is None:
            continue
        if not isinstance(document, dict):
            raise UsageError(f"--config {path}, document {number}: is not a mapping of settings")
        api_version, kind = document.pop("apiVersion", None), document.pop("kind", None)
        if kind != KIND:
            others.append(f"document {number}: {api_version} {kind}")
        elif api_version != API_VERSION:
            raise UsageError(f"--config {path}, document {number}: apiVersion: {api_version!r} is not known (write {API_VERSION})")
        else:
            found[number] = document
    if len(found) > 1:
        raise UsageError(f"--config {path}: documents {' and '.join(map(str, found))} are both of kind {KIND}: one is allowed")
    number, settings = next(iter(found.items()), (0, {}))
    return settings, number, others


def _documents(path: str) -> list[Any]:
    try:
        return list(yaml.load_all(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--config {path}: is not UTF-8 (byte {error.start})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"--config {path}: is not YAML: {' '.join(str(error).split())}") from error


def _convert(settings: Mapping[str, Any], name_of: Callable[[str], str]) -> Config:
    """Make a Config; name_of says where the operator wrote a setting."""
    try:
        return msgspec.convert(settings, Config, dec_hook=_decode)
    except msgspec.ValidationError as error:
        setting, reason = _explain(str(error))
        raise UsageError(f"{name_of(setting)}: {reason}") from error


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
    if wanted is Duration and isinstance(value, str):
        return Duration.parse(value)
    raise ValueError(f"{value!r} is not a duration (write it like 250ms, 30s or 1h30m)")
