"""The effective settings as documents again: for `--write-config-to` and for /configz.

Owns the way from a Config back to what a file would say. Invariant: a file with both documents, read again without
environment and flags, gives an equal Config and not one remark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml
from msgspec import Struct

from uproxy.config_rules import Duration
from uproxy.kube_proxy_config import API_VERSION as KUBE_PROXY_API_VERSION
from uproxy.kube_proxy_config import KIND as KUBE_PROXY_KIND
from uproxy.kube_proxy_fields import BY_PATH

if TYPE_CHECKING:
    from uproxy.config import Config

API_VERSION: Final = "uproxy.io/v1alpha1"
KIND: Final = "UproxyConfiguration"


def own(config: Config) -> dict[str, Any]:
    """Give the whole UproxyConfiguration, every setting named."""
    return {"apiVersion": API_VERSION, "kind": KIND, **_plain(config)}


def kube_proxy(config: Config) -> dict[str, Any]:
    """Give the KubeProxyConfiguration that says the same, as far as it has words for it: the fields that have a meaning here."""
    document: dict[str, Any] = {"apiVersion": KUBE_PROXY_API_VERSION, "kind": KUBE_PROXY_KIND, "mode": "userspace"}
    settings, seen = flat(config), set()
    for path, field in BY_PATH.items():
        value = settings.get(field.setting)
        if value is not None and field.setting not in seen:
            seen.add(field.setting)
            shown = field.shows(value) if field.shows else value
            _put(document, path.split("."), list(shown) if isinstance(shown, tuple) else shown)
    return document


def configz(config: Config) -> dict[str, Any]:
    """Give what /configz answers: both documents by the group that they belong to."""
    return {"kubeproxy.config.k8s.io": kube_proxy(config), "uproxy.io": own(config)}


def as_file(config: Config) -> str:
    """Give a configuration file that says all of it."""
    return yaml.safe_dump_all([kube_proxy(config), own(config)], sort_keys=False, allow_unicode=True)


def flat(config: Config) -> dict[str, Any]:
    """Give every setting by its dotted name, as a file spells it; durations as text."""
    return dict(_flat(_plain(config)))


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


def _plain(value: Any) -> Any:  # noqa: ANN401 - any setting
    if isinstance(value, Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return {encoded: _plain(getattr(value, name)) for encoded, name in names}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.text() if isinstance(value, Duration) else value


def _put(document: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401 - any setting
    *groups, name = path
    for group in groups:
        document = document.setdefault(group, {})
    document[name] = value
