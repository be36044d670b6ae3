"""One kubeconfig, or several that are one -> what is said of one cluster and one user.

The library reads, merges and authenticates. Owned here is what it leaves out: which file's current-context counts and
which folder a path is relative to (kubectl's rules), that a mistake is told with file, entry and field, and that what
is embedded in the file stays in memory. Blocking: reads files. Raises UsageError only.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec
import yaml
from msgspec import Struct, field

from uproxy.errors import UsageError
from uproxy.sources.kubernetes.exec_plugin import ExecPlugin, exec_plugin
from uproxy.sources.kubernetes.library import ConfigException, Configuration, KubeConfigLoader, KubeConfigMerger
from uproxy.sources.kubernetes.rest_config import RestConfig, check_authorization, check_proxy, check_server, read_pem
from uproxy.sources.kubernetes.tls import Pem, Tls

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence


class _Extension(Struct):
    name: str
    extension: Any = None


class _Cluster(Struct, rename="kebab"):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: tuple[_Extension, ...] = ()


class _Variable(Struct):
    name: str
    value: str


class _Exec(Struct, rename="camel"):
    command: str
    api_version: Literal["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
    args: tuple[str, ...] = ()
    env: tuple[_Variable, ...] = ()
    provide_cluster_info: bool = False
    interactive_mode: Literal["Never", "IfAvailable", "Always"] = "Never"
    install_hint: str = ""


class _User(Struct, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = field(default="", name="tokenFile")
    username: str = ""
    password: str = ""
    exec: _Exec | None = None
    auth_provider: dict[str, Any] | None = None


class _Context(Struct):
    cluster: str
    user: str = ""


def current_context(paths: Sequence[str]) -> str:
    """Give the name of these files' current context: the first one that is set, as kubectl does; raises UsageError."""
    return _Entries(paths).current_context()


def read(paths: Sequence[str], context: str) -> RestConfig:
    """Read one context of these files, of which the first that has an entry counts; raises UsageError."""
    entries = _Entries(paths)
    _, chosen = entries.find("contexts", context, _Context)
    cluster_place, cluster = entries.find("clusters", chosen.cluster, _Cluster)
    user_place, user = entries.find("users", chosen.user, _User) if chosen.user else (cluster_place, _User())
    rest = _Reader(cluster_place, cluster, user_place, user).read()
    return msgspec.structs.replace(rest, files=(*paths, *rest.files))


class _Place(Struct, frozen=True):
    """An entry of a file: how it is told, and the folder that its paths are relative to."""

    name: str
    folder: str


_Entry = TypeVar("_Entry", _Context, _Cluster, _User)


class _Entries:
    """All files, merged by the library."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._told = ":".join(paths)
        self._merger = KubeConfigMerger("")  # no paths here: each is loaded on its own, so that its mistakes have a name
        for path in paths:
            self._load(path)

    def _load(self, path: str) -> None:
        try:
            self._merger.load_config(path)
            is_one = all(_is_list_of_named(self._merger.config_files[path].get(kind) or []) for kind in _KINDS)
        except OSError as error:
            raise UsageError(f"kubeconfig {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"kubeconfig {path}: is not UTF-8 (byte {error.start})") from error
        except yaml.YAMLError as error:
            raise UsageError(f"kubeconfig {path}: is not YAML: {' '.join(str(error).split())}") from error
        except (AttributeError, TypeError, KeyError, ConfigException):
            is_one = False
        if not is_one:
            raise UsageError(f"kubeconfig {path}: does not have the form of `kubectl config view`")

    def current_context(self) -> str:
        """Give the first that is set; the library takes the last one, even an empty one."""
        for content in self._merger.config_files.values():
            if content.get("current-context"):
                return str(content["current-context"])
        raise UsageError(f"kubeconfig {self._told}: current-context is not set (kubectl config use-context NAME)")

    def find(self, kind: Literal["contexts", "clusters", "users"], name: str, form: type[_Entry]) -> tuple[_Place, _Entry]:
        """Give an entry and its place."""
        try:
            node = self._merger.config[kind].get_with_name(name)
        except (ConfigException, TypeError) as error:
            raise UsageError(f"kubeconfig {self._told}: {kind[:-1]} {name!r} is not there") from error
        place = _Place(f"kubeconfig {node.path}, {kind[:-1]} {name}", os.path.dirname(os.path.abspath(node.path)))  # noqa: PTH100, PTH120 - texts
        return place, _convert(place, _without_nulls(node.value.get(kind[:-1])), form)


_KINDS: Final = ("contexts", "clusters", "users")


def _is_list_of_named(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in entries)


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - some YAML
    """Leave away what is null: nothing is said there."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return {} if value is None else value


def _convert(place: _Place, value: object, form: type[_Entry]) -> _Entry:
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        inside = where.strip("`.")
        raise UsageError(f"{place.name}: {f'{inside}: ' if inside else ''}{what}") from error


class _Reader:
    """One cluster and one user, each with its place."""

    def __init__(self, cluster_place: _Place, cluster: _Cluster, user_place: _Place, user: _User) -> None:
        self._cluster_place = cluster_place
        self._cluster = cluster
        self._user_place = user_place
        self._user = user
        self._files: list[str] = []

    def read(self) -> RestConfig:
        user = self._user
        if user.auth_provider is not None:
            raise UsageError(f"{self._user_place.name}: auth-provider is not supported (kubectl has dropped most of them too): use exec")
        tls = self._tls()
        token_file = self._path(self._user_place, user.token_file)
        loaded = self._load(token_file)
        return RestConfig(
            server=check_server(f"{self._cluster_place.name}, server", loaded.host),
            tls=tls,
            server_name=loaded.tls_server_name or "",
            proxy=check_proxy(f"{self._cluster_place.name}, proxy-url", loaded.proxy) if loaded.proxy else "",
            authorization=self._authorization(loaded, token_file),
            exec_plugin=self._exec_plugin(user.exec, tls) if user.exec else None,
            files=tuple(self._files),
        )

    def _load(self, token_file: str) -> Configuration:
        """Let the library authenticate. It does not get what it would do worse: paths, embedded files, programs."""
        cluster, user = self._cluster, self._user
        # A token beside a file with one is the file's first content, in kubectl's words; the library prefers it.
        token = {"tokenFile": token_file} if token_file else {"token": user.token}
        basic = {"username": user.username, "password": user.password} if user.username else {}
        tls = {"insecure-skip-tls-verify": cluster.insecure_skip_tls_verify, "tls-server-name": cluster.tls_server_name}
        node = {
            "current-context": _ONLY,
            "contexts": [{"name": _ONLY, "context": {"cluster": _ONLY, "user": _ONLY}}],
            "clusters": [{"name": _ONLY, "cluster": {"server": cluster.server, "proxy-url": cluster.proxy_url, **tls}}],
            "users": [{"name": _ONLY, "user": {**token, **basic}}],
        }
        configuration = Configuration()
        try:
            _finish(KubeConfigLoader(node, config_base_path="").load_and_set(configuration))
        except OSError as error:
            raise UsageError(f"{self._user_place.name}, tokenFile {token_file}: {error.strerror}") from error
        except (ConfigException, ValueError) as error:
            raise UsageError(f"{self._user_place.name}: {error}") from error
        return configuration

    def _authorization(self, loaded: Configuration, token_file: str) -> str:
        if not token_file and "BearerToken" not in loaded.api_key:
            return ""
        place = f"tokenFile {token_file}" if token_file else "token"
        return check_authorization(f"{self._user_place.name}, {place}", loaded.api_key.get("BearerToken", ""))

    def _tls(self) -> Tls:
        theirs, ours, cluster, user = self._cluster_place, self._user_place, self._cluster, self._user
        return Tls(
            authority=self._pem(theirs, "certificate-authority", cluster.certificate_authority, cluster.certificate_authority_data),
            certificate=self._pem(ours, "client-certificate", user.client_certificate, user.client_certificate_data),
            key=self._pem(ours, "client-key", user.client_key, user.client_key_data),
            is_verified=not cluster.insecure_skip_tls_verify,
        )

    def _pem(self, place: _Place, name: str, path: str, data: str) -> Pem | None:
        """Give what is embedded, else what the file holds: kubectl's order."""
        if data:
            try:
                return Pem(f"{place.name}, {name}-data", base64.b64decode("".join(data.split()), validate=True))
            except (binascii.Error, ValueError) as error:
                raise UsageError(f"{place.name}, {name}-data: is not base64 ({error})") from error
        return read_pem(f"{place.name}, {name}", self._path(place, path)) if path else None

    def _path(self, place: _Place, path: str) -> str:
        """Give a path from its own file's folder and note it; the library takes the cluster's for the user too."""
        if not path:
            return ""
        absolute = os.path.normpath(os.path.join(place.folder, path))  # noqa: PTH118 - texts
        self._files.append(absolute)
        return absolute

    def _exec_plugin(self, settings: _Exec, tls: Tls) -> ExecPlugin:
        if settings.interactive_mode == "Always":
            raise UsageError(f"{self._user_place.name}: exec.interactiveMode is Always, and there is nobody to ask")
        values = msgspec.to_builtins(settings, builtin_types=())
        if os.sep in settings.command:
            values["command"] = os.path.join(self._user_place.folder, settings.command)  # noqa: PTH118 - texts
        return exec_plugin({**values, "args": list(settings.args)}, self._told_to_plugins(tls))

    def _told_to_plugins(self, tls: Tls) -> dict[str, Any]:
        """Say what a plugin learns of the cluster (https://kubernetes.io/docs/reference/config-api/client-authentication.v1/)."""
        cluster = self._cluster
        authority = base64.b64encode(tls.authority.content).decode() if tls.authority else ""
        said = {
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
            "certificate-authority-data": authority,
            "proxy-url": cluster.proxy_url,
            "config": next((each.extension for each in cluster.extensions if each.name == _EXEC_EXTENSION), None),
        }
        return {key: value for key, value in said.items() if value}


_ONLY: Final = "only"
_EXEC_EXTENSION: Final = "client.authentication.k8s.io/exec"


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine of the library that has nothing to wait for: without plugins and providers it only reads files."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("the library waits for something that it was not asked for")
