"""Where the API server is found, in which order, and what is said of every mistake on the way."""

from __future__ import annotations

import base64
import json
import os
import ssl
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from msgspec.structs import replace

from tests.cluster.certificates import Authority, User
from uproxy.config import Config
from uproxy.dataplane.descriptors import descriptors_in_use
from uproxy.errors import UsageError
from uproxy.sources.kubernetes.access import SERVICE_ACCOUNT, Access, find

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AUTHORITY = Authority()
CLIENT = AUTHORITY.client(User("system:kube-proxy"))
STRANGER = AUTHORITY.client(User("stranger"))
EXEC = {"command": "x", "apiVersion": "client.authentication.k8s.io/v1"}
IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}


def look(
    kubeconfig: Path | str = "", *, master: str = "", environ: Mapping[str, str] | None = None, account: Path = SERVICE_ACCOUNT
) -> Access:
    return find(replace(Config(), kubeconfig=str(kubeconfig), master=master), environ or {}, account)


def mistake(
    kubeconfig: Path | str = "", *, master: str = "", environ: Mapping[str, str] | None = None, account: Path = SERVICE_ACCOUNT
) -> str:
    """Give what the operator is told: one line."""
    with pytest.raises(UsageError) as caught:
        look(kubeconfig, master=master, environ=environ, account=account)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def document(server: str = "https://10.0.0.1:6443", user: dict[str, Any] | None = None, **cluster: object) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "home", "user": "me"}}],
        "clusters": [{"name": "home", "cluster": {"server": server, **{name.replace("_", "-"): value for name, value in cluster.items()}}}],
        "users": [{"name": "me", "user": {"token": "t"} if user is None else user}],
    }


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def write_account(folder: Path, content: str = "pod-token", authority: bytes = AUTHORITY.pem) -> Path:
    (folder / "token").write_text(content, encoding="utf-8")
    (folder / "ca.crt").write_bytes(authority)
    return folder


# The order


def test_a_named_kubeconfig_comes_first(tmp_path: Path) -> None:
    named = write(tmp_path / "named", document("https://named:1"))
    other = write(tmp_path / "other", document("https://other:2"))
    found = look(named, environ={"KUBECONFIG": str(other), **IN_CLUSTER}, account=write_account(tmp_path))
    assert found.rest.server == "https://named:1"
    assert found.origin == f"kubeconfig {named}, context here"


def test_the_environments_kubeconfig_comes_before_the_pods_own_account(tmp_path: Path) -> None:
    other = write(tmp_path / "other", document("https://other:2"))
    found = look(environ={"KUBECONFIG": str(other), **IN_CLUSTER}, account=write_account(tmp_path))
    assert found.rest.server == "https://other:2"
    assert found.origin == f"KUBECONFIG {other}, context here"


@pytest.mark.parametrize("unset", [{}, {"KUBECONFIG": ""}, {"KUBECONFIG": "::"}])
def test_a_pod_is_given_everything(tmp_path: Path, unset: dict[str, str]) -> None:
    found = look(environ={**IN_CLUSTER, **unset}, account=write_account(tmp_path, content="pod-token\n"))
    assert found.rest.server == "https://10.0.0.1:6443"
    assert found.rest.authorization == "Bearer pod-token"
    assert found.rest.tls.authority is not None
    assert found.rest.tls.authority.content == AUTHORITY.pem
    assert found.origin == f"service account {tmp_path}"
    assert found.warnings == ()


def test_an_ipv6_address_in_a_pod_is_put_in_brackets(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert look(environ=environ, account=write_account(tmp_path)).rest.server == "https://[fd00::1]:443"


def test_master_replaces_the_kubeconfigs_server_and_nothing_else(tmp_path: Path) -> None:
    ours = {"client-certificate-data": encoded(CLIENT.chain), "client-key-data": encoded(CLIENT.key)}
    path = write(tmp_path / "k", document(user=ours, certificate_authority_data=encoded(AUTHORITY.pem)))
    found = look(path, master="https://elsewhere:7/")
    assert found.rest.server == found.read().server == "https://elsewhere:7"
    assert found.rest.tls.certificate is not None
    assert found.origin == f"kubeconfig {path}, context here and --master"


def test_master_alone_is_asked_anonymously_and_that_is_said(tmp_path: Path) -> None:
    found = look(master="http://127.0.0.1:8080", environ=IN_CLUSTER, account=write_account(tmp_path))
    assert (found.rest.server, found.rest.is_anonymous, found.origin) == ("http://127.0.0.1:8080", True, "--master")
    assert [warning.partition(":")[0] for warning in found.warnings] == ["the connection is not encrypted", "no credentials"]
    assert len(look(master="https://127.0.0.1:6443").warnings) == 1


def test_without_anything_the_three_ways_are_named() -> None:
    told = mistake()
    assert all(way in told for way in ("--kubeconfig", "--master", "--manifests", "KUBECONFIG", "KUBERNETES_SERVICE_HOST"))


# The trap


@pytest.mark.parametrize(
    ("host", "is_trap"),
    [
        ("10.96.0.1", True),
        ("kubernetes.default.svc", True),
        ("kubernetes.default.svc.cluster.local", True),
        ("10.0.0.1", False),
        ("kubernetes-api.example", False),
    ],
)
def test_the_clusters_own_service_is_recognised(tmp_path: Path, host: str, *, is_trap: bool) -> None:
    # The kubelet gives both; KUBERNETES_SERVICE_HOST is what a DaemonSet overrides.
    environ = {**IN_CLUSTER, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1"}
    assert bool(look(environ=environ, account=write_account(tmp_path)).trap) is is_trap


def test_a_kubeconfig_can_lead_into_the_trap_too(tmp_path: Path) -> None:
    path = write(tmp_path / "k", document("https://10.96.0.1:443"))
    assert look(path, environ={"KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1"}).trap


# What a kubeconfig can say


def test_paths_are_relative_to_the_file_that_says_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The cluster and the user are in different folders.
    write(tmp_path / "a" / "ca.crt", AUTHORITY.pem.decode())
    write(tmp_path / "b" / "me.crt", CLIENT.chain.decode())
    write(tmp_path / "b" / "keys" / "me.key", CLIENT.key.decode())
    whole = document(user={"client-certificate": "me.crt", "client-key": "keys/me.key"}, certificate_authority="ca.crt")
    write(tmp_path / "a" / "config", {**whole, "users": None})
    write(tmp_path / "b" / "config", {"users": whole["users"]})
    monkeypatch.chdir(tmp_path)
    tls = look(environ={"KUBECONFIG": "a/config:b/config"}).rest.tls
    assert [pem.content for pem in (tls.authority, tls.certificate, tls.key) if pem] == [AUTHORITY.pem, *CLIENT]


def test_of_several_files_the_first_that_says_something_counts(tmp_path: Path) -> None:
    first = write(tmp_path / "first", {**document("https://first:1"), "current-context": ""})
    second = write(tmp_path / "second", {**document("https://second:2"), "current-context": "here"})
    third = write(tmp_path / "third", {"current-context": "there"})
    paths = ":".join(map(str, (first, tmp_path / "missing", second, third)))
    found = look(environ={"KUBECONFIG": paths})
    assert found.rest.server == "https://first:1"
    assert found.origin == f"KUBECONFIG {first}:{second}:{third}, context here"
    assert set(found.rest.files) == {str(first), str(second), str(third)}


def test_a_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "config", document())
    assert look(environ={"KUBECONFIG": "~/config"}).rest.server == "https://10.0.0.1:6443"


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"token": "abc\n"}, "Bearer abc"),
        ({"tokenFile": "token"}, "Bearer from-file"),
        ({"token": "older", "tokenFile": "token"}, "Bearer from-file"),
        ({"username": "me", "password": "secret"}, f"Basic {encoded(b'me:secret')}"),
        ({}, ""),
        (None, ""),
    ],
)
def test_ways_to_authenticate(tmp_path: Path, user: dict[str, str] | None, authorization: str) -> None:
    write(tmp_path / "token", "from-file\n")
    whole = document()
    whole["users"][0]["user"] = user
    assert look(write(tmp_path / "k", whole)).rest.authorization == authorization


def test_a_context_without_a_user_is_anonymous(tmp_path: Path) -> None:
    whole = document()
    del whole["contexts"][0]["context"]["user"]
    found = look(write(tmp_path / "k", whole))
    assert found.rest.is_anonymous
    assert any("anonymously" in warning for warning in found.warnings)


def test_everything_else_that_a_cluster_can_say(tmp_path: Path) -> None:
    said = document("https://host/prefix/", tls_server_name="api.example", insecure_skip_tls_verify=True, proxy_url="http://proxy:3128")
    rest = look(write(tmp_path / "k", said)).rest
    assert rest.server == "https://host/prefix"
    assert (rest.server_name, rest.proxy, rest.tls.is_verified) == ("api.example", "http://proxy:3128", False)


def test_a_plugins_command_is_relative_to_the_file_and_learns_of_the_cluster_if_it_asks(tmp_path: Path) -> None:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "./bin/login",
        "args": ["--now"],
        "env": [{"name": "WHO", "value": "me"}],
        "provideClusterInfo": True,
    }
    extensions = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}]
    authority = encoded(AUTHORITY.pem)
    whole = document(user={"exec": plugin}, extensions=extensions, certificate_authority_data=authority)
    made = look(write(tmp_path / "k", whole)).rest.exec_plugin
    assert made is not None
    assert made.argv == (f"{tmp_path}/./bin/login", "--now")
    assert made.environ["WHO"] == "me"
    assert made.environ["PATH"] == os.environ["PATH"]
    assert json.loads(made.environ["KUBERNETES_EXEC_INFO"]) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {"server": "https://10.0.0.1:6443", "certificate-authority-data": authority, "config": {"audience": "x"}},
        },
    }


def test_keys_in_a_kubeconfig_are_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    ours = {"client-certificate-data": encoded(CLIENT.chain), "client-key-data": encoded(CLIENT.key)}
    before = descriptors_in_use()
    found = look(write(tmp_path / "k", document(user=ours, certificate_authority_data=encoded(AUTHORITY.pem))))
    assert isinstance(found.rest.tls.context(), ssl.SSLContext)
    assert list(empty.iterdir()) == []
    assert descriptors_in_use() == before


def test_a_path_with_a_colon_is_one_path(tmp_path: Path) -> None:
    assert look(write(tmp_path / "a:b", document())).rest.server == "https://10.0.0.1:6443"


# Mistakes


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [", "is not YAML"),
        ("", "does not have the form"),
        ("just words", "does not have the form"),
        ("[1, 2]", "does not have the form"),
        ("clusters: {a: b}", "does not have the form"),
        ("clusters: [{cluster: {}}, {cluster: {}}]", "does not have the form"),
        ("{}", "current-context is not set"),
        ({**document(), "current-context": None}, "current-context is not set"),
        ({**document(), "current-context": "nowhere"}, "context 'nowhere' is not there"),
        ({**document(), "clusters": []}, "cluster 'home' is not there"),
        ({**document(), "users": None}, "user 'me' is not there"),
        (document(server=""), "server: '' is not the URL of a server"),
        (document("10.0.0.1:6443"), "write it like https://10.0.0.1:6443"),
        (document("https://10.0.0.1:70000"), "is not a URL"),
        (document("https://me:secret@host:1"), "server: 'https://...@host:1' holds more than"),
        (document("ftp://host"), "is not the URL of a server"),
        (document("https://ho st"), "is not the URL of a server"),
        (document(certificate_authority="ca.crt"), "certificate-authority {folder}/ca.crt: No such file or directory"),
        (document(certificate_authority_data="%%%"), "certificate-authority-data: is not base64"),
        (document(certificate_authority_data=encoded(b"hello")), "certificate-authority-data: holds no certificate"),
        (document(proxy_url="socks5://proxy:1080"), "a SOCKS proxy is not supported"),
        (document(proxy_url="proxy"), "proxy-url: 'proxy' is not the URL"),
        (document(tls_server_name=5), "cluster home: tls-server-name: Expected `str`, got `int`"),
        (document(user={"token": 12345}), "user me: token: Expected `str`, got `int`"),
        (document(user={"token": "two\nlines"}), "token: is not one line"),
        (document(user={"token": "t\u00f6ken"}), "token: is not one line of printable characters"),
        (document(user={"tokenFile": "gone"}), "tokenFile {folder}/gone: No such file or directory"),
        (document(user={"tokenFile": "."}), "tokenFile {folder}: Is a directory"),
        (document(user={"client-certificate-data": encoded(CLIENT.chain)}), "client-certificate-data: has no key beside it"),
        (
            document(user={"client-certificate-data": encoded(CLIENT.chain), "client-key-data": encoded(STRANGER.key)}),
            "are no certificate with its key",
        ),
        (document(user={"auth-provider": {"name": "gcp"}}), "auth-provider is not supported"),
        (document(user={"exec": {"command": "x"}}), "exec: Object missing required field `apiVersion`"),
        (document(user={"exec": {**EXEC, "apiVersion": "client.authentication.k8s.io/v1alpha1"}}), "exec.apiVersion: Invalid enum value"),
        (document(user={"exec": {**EXEC, "interactiveMode": "Always"}}), "there is nobody to ask"),
    ],
)
def test_mistakes_in_a_kubeconfig_are_told_with_file_entry_and_field(tmp_path: Path, content: object, told: str) -> None:
    path = write(tmp_path / "k", content)
    said = mistake(path)
    assert said.startswith(f"kubeconfig {path}")
    assert told.replace("{folder}", str(tmp_path)) in said


def test_an_encrypted_key_asks_nobody(tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(CLIENT.key, None)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    user = {"client-certificate-data": encoded(CLIENT.chain), "client-key-data": encoded(key.private_bytes(*form))}
    assert "is encrypted, and there is nobody to ask" in mistake(write(tmp_path / "k", document(user=user)))


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    assert mistake(tmp_path / "gone") == f"kubeconfig {tmp_path}/gone: No such file or directory"
    assert mistake(tmp_path) == f"kubeconfig {tmp_path}: Is a directory"
    assert mistake(environ={"KUBECONFIG": f"{tmp_path}/gone:{tmp_path}/too"}) == f"KUBECONFIG {tmp_path}/gone:{tmp_path}/too: no such file"
    (tmp_path / "latin").write_bytes(b"current-context: \xe9")
    assert "is not UTF-8" in mistake(tmp_path / "latin")


@pytest.mark.parametrize("url", ["10.0.0.1:6443", "https://", "tcp://10.0.0.1", "https://host:0", "https://host?x=1"])
def test_a_master_that_is_no_server_is_told(url: str) -> None:
    assert mistake(master=url).startswith("--master: ")


def test_mistakes_in_a_pod_are_told(tmp_path: Path) -> None:
    said = mistake(environ=IN_CLUSTER, account=tmp_path)
    assert said == f"service account {tmp_path}: Service token file does not exist. (outside of a pod give --kubeconfig FILE)"
    assert "Service host/port is set but empty" in mistake(environ={**IN_CLUSTER, "KUBERNETES_SERVICE_PORT": ""}, account=tmp_path)
    assert "Service host/port is not set" in mistake(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, account=tmp_path)
    write_account(tmp_path, authority=b"hello")
    assert f"service account {tmp_path}/ca.crt: holds no certificate" in mistake(environ=IN_CLUSTER, account=tmp_path)
    write_account(tmp_path, content="")
    assert "Token file exists but empty" in mistake(environ=IN_CLUSTER, account=tmp_path)
    write_account(tmp_path, content=" \n")
    assert f"service account {tmp_path}/token: is empty" in mistake(environ=IN_CLUSTER, account=tmp_path)


def test_what_was_found_can_be_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "k", document(user={"token": "old"}))
    found = look(path)
    write(path, document(user={"token": "new"}))
    assert (found.rest.authorization, found.read().authorization) == ("Bearer old", "Bearer new")
