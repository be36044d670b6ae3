"""What is wanted of kubernetes_asyncio, without what is not: its kubeconfig, service account and plugin readers.

Importing it as usual runs client/__init__.py, which loads a class for every kind and call of the API: 36 MB and half
a second, for a process that decodes JSON by itself. The readers want two names of that package, to fill in and to
annotate. So while they are imported, stand-ins with the real packages' paths hold its place, and then leave again:
whoever imports kubernetes_asyncio later gets the whole. Invariant: a version that this does not work with is
imported as usual (is_light tells), which costs memory and nothing else. docs/decisions/0011 has the numbers.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

LIBRARY: Final = "kubernetes_asyncio"


class Configuration:
    """What the library's readers write down: they only set attributes, and the authorization under `BearerToken`."""

    def __init__(self) -> None:
        self.host = ""
        self.api_key: dict[str, str] = {}
        self.ssl_ca_cert: str | None = None
        self.cert_file: str | None = None
        self.key_file: str | None = None
        self.verify_ssl = True
        self.tls_server_name: str | None = None
        self.proxy: str | None = None
        self.refresh_api_key_hook: object = None


class _ApiClient:
    """Stands where the readers name the class of a client that they could make, and that nobody asks for."""

    def __init__(self, *_: object, **__: object) -> None:
        raise NotImplementedError("requests go through uproxy.sources.kubernetes.client")


def _import_readers() -> tuple[ModuleType, ModuleType, ModuleType, ModuleType]:
    return (
        import_module(f"{LIBRARY}.config.kube_config"),
        import_module(f"{LIBRARY}.config.incluster_config"),
        import_module(f"{LIBRARY}.config.exec_provider"),
        import_module(f"{LIBRARY}.config.config_exception"),
    )


def _import_lightly() -> tuple[tuple[ModuleType, ModuleType, ModuleType, ModuleType], bool]:
    """Give the readers, and whether they came without the rest."""
    if LIBRARY not in sys.modules:
        try:
            with _stand_ins():
                return _import_readers(), True
        except (ImportError, AttributeError, TypeError):
            pass  # a version that wants more of the client package than the stand-in has: take the whole
    return _import_readers(), False


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Let the two packages be found without running them; afterwards it is as if nobody had imported anything."""
    try:
        _stand_in(LIBRARY)
        client = _stand_in(f"{LIBRARY}.client")
        client.__dict__.update(Configuration=Configuration, ApiClient=_ApiClient)
        yield
    finally:
        for name in [name for name in sys.modules if name == LIBRARY or name.startswith(f"{LIBRARY}.")]:
            del sys.modules[name]


def _stand_in(name: str) -> ModuleType:
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = sys.modules[name] = module_from_spec(spec)
    return module


(_kube_config, _incluster, _exec, _errors), is_light = _import_lightly()

# What these log they also raise, and we say it once, in our own words.
logging.getLogger(LIBRARY).setLevel(logging.CRITICAL)

KubeConfigLoader: Final[Any] = _kube_config.KubeConfigLoader
KubeConfigMerger: Final[Any] = _kube_config.KubeConfigMerger
InClusterConfigLoader: Final[Any] = _incluster.InClusterConfigLoader
ExecProvider: Final[Any] = _exec.ExecProvider
ConfigNode: Final[Any] = _kube_config.ConfigNode
ConfigException: Final[type[Exception]] = _errors.ConfigException
