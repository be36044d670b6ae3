"""Where the API server is and as whom it is asked: flag, settings file, KUBECONFIG, or what a pod is given.

Owns the order of these and the words in which the operator is told. Must not know how connections are made. Blocking:
reads files. Everything raised is a UsageError of one line; what is found can be read anew at any time.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from uproxy.errors import UsageError
from uproxy.sources.kubernetes import kubeconfig
from uproxy.sources.kubernetes.library import ConfigException, Configuration, InClusterConfigLoader
from uproxy.sources.kubernetes.rest_config import RestConfig, check_authorization, check_server, check_tls, read_pem
from uproxy.sources.kubernetes.tls import Tls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uproxy.config import Config

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts a pod's token and the cluster's authority."""


class Access(Struct, frozen=True):
    """What was found.

    origin: who says so, as the operator is told. read: gives what rest is, read anew; raises UsageError. trap: what to
    do when the address is not reached and is one that a service proxy has to serve first; "" for an ordinary address.
    warnings: what is unsafe about it.
    """

    origin: str
    rest: RestConfig
    read: Callable[[], RestConfig]
    trap: str = ""
    warnings: tuple[str, ...] = ()


def find(config: Config, environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT) -> Access:
    """Find the API server: config.kubeconfig, else KUBECONFIG, else (without config.master) the pod's own; raises UsageError.

    config.master replaces the address; alone it is asked anonymously.
    """
    origin, read = _source(config, environ, service_account)
    if config.master:
        origin, read = f"{origin} and --master" if origin else "--master", _instead(read, check_server("--master", config.master))
    rest = read()
    if rest.is_encrypted:
        check_tls(rest.tls)
    return Access(origin, rest, read, _trap(rest, environ), _warnings(rest))


def _source(config: Config, environ: Mapping[str, str], service_account: Path) -> tuple[str, Callable[[], RestConfig]]:
    if config.kubeconfig:
        return _from_kubeconfig("kubeconfig", (config.kubeconfig,))
    if environ.get("KUBECONFIG", "").strip(":"):
        return _from_kubeconfig("KUBECONFIG", _existing(environ["KUBECONFIG"]))
    if config.master:
        return "", lambda: RestConfig(config.master)
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return f"service account {service_account}", lambda: _in_cluster(environ, service_account)
    raise UsageError(
        "neither an API server nor manifests: give --kubeconfig FILE, --master URL or --manifests DIR "
        "(KUBECONFIG is not set, and neither is KUBERNETES_SERVICE_HOST as in a pod)",
    )


def _from_kubeconfig(said: str, paths: tuple[str, ...]) -> tuple[str, Callable[[], RestConfig]]:
    # The context is settled once: whoever switches a shared kubeconfig does not mean this node to leave its cluster.
    context = kubeconfig.current_context(paths)
    return f"{said} {':'.join(paths)}, context {context}", lambda: kubeconfig.read(paths, context)


def _existing(paths: str) -> tuple[str, ...]:
    """Give the files of KUBECONFIG that there are: kubectl passes over the others too."""
    named = [os.path.expanduser(path) for path in paths.split(":") if path]  # noqa: PTH111 - texts, as they are told
    found = tuple(path for path in named if os.path.exists(path))  # noqa: PTH110 - as above
    if not found:
        raise UsageError(f"KUBECONFIG {paths}: no such file")
    return found


def _in_cluster(environ: Mapping[str, str], service_account: Path) -> RestConfig:
    token, authority = str(service_account / "token"), str(service_account / "ca.crt")
    loader = InClusterConfigLoader(token, authority, try_refresh_token=False, environ=environ)
    configuration = Configuration()
    try:
        loader.load_and_set(configuration)
    except ConfigException as error:
        raise UsageError(f"service account {service_account}: {error} (outside of a pod give --kubeconfig FILE)") from error
    except OSError as error:
        raise UsageError(f"service account {error.filename}: {error.strerror}") from error
    return RestConfig(
        server=check_server("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT", configuration.host),
        tls=Tls(read_pem("service account", authority)),
        authorization=check_authorization(f"service account {token}", configuration.api_key["BearerToken"]),
        files=(token, authority),
    )


def _instead(read: Callable[[], RestConfig], server: str) -> Callable[[], RestConfig]:
    return lambda: replace(read(), server=server)


_INJECTED: Final = re.compile(r"KUBERNETES_PORT_\d+_TCP_ADDR")
_SERVICE_NAME: Final = re.compile(r"kubernetes(\.default(\.svc(\..*)?)?)?", re.IGNORECASE)


def _trap(rest: RestConfig, environ: Mapping[str, str]) -> str:
    """Tell whether this is the Service kubernetes. The kubelet says its ClusterIP twice, and only one is usually overridden."""
    host = urlsplit(rest.server).hostname or ""
    cluster_ips = {value for name, value in environ.items() if _INJECTED.fullmatch(name)}
    if host not in cluster_ips and not _SERVICE_NAME.fullmatch(host):
        return ""
    return (
        f"{host} is the Service kubernetes itself, reached only while some service proxy serves it: give the API server's "
        "own address (in a pod KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, else --master or server in the kubeconfig)"
    )


def _warnings(rest: RestConfig) -> tuple[str, ...]:
    found = []
    if not rest.is_encrypted:
        found.append("the connection is not encrypted: everybody on the way can read it and change it")
    elif not rest.tls.is_verified:
        found.append("insecure-skip-tls-verify: whoever is on the way can be the API server")
    if rest.is_anonymous:
        found.append("no credentials: the API server is asked anonymously")
    return tuple(found)
