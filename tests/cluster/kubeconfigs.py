"""kubeconfig files, one for each way of proving who one is.

The values below are a kubeconfig's `user`: `with_certificate(...)` and so on make them, `write` puts them beside
the cluster's address and authority. Written as JSON, which is YAML.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from tests.cluster.certificates import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.cluster.certificates import Certificate

Credentials = dict[str, Any]


def with_certificate(certificate: Certificate) -> Credentials:
    """Prove it with a client certificate, its data inside the kubeconfig."""
    return {"client-certificate-data": _base64(certificate.chain), "client-key-data": _base64(certificate.key)}


def with_certificate_files(paths: tuple[Path, Path]) -> Credentials:
    """Prove it with a client certificate in files, which may be renewed."""
    return {"client-certificate": str(paths[0]), "client-key": str(paths[1])}


def with_token(token: str) -> Credentials:
    """Prove it with a token inside the kubeconfig."""
    return {"token": token}


def with_token_file(path: Path) -> Credentials:
    """Prove it with a token in a file, which may be renewed."""
    return {"tokenFile": str(path)}


def with_exec(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Credentials:
    """Prove it with what a program prints: an ExecCredential."""
    variables = [{"name": name, "value": value} for name, value in (environment or {}).items()]
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": command[0],
        "args": list(command[1:]),
        "env": variables,
        "interactiveMode": "Never",
    }
    return {"exec": plugin}


def write(path: Path, server: str, authority: bytes, user: Credentials, *, context: str = "lab") -> Path:
    """Write a kubeconfig with one context. server: URL; authority: PEM of who signed the server's certificate."""
    cluster = {"server": server, "certificate-authority-data": _base64(authority)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": context, "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": context,
    }
    write_whole(path, json.dumps(document, indent=1).encode())
    return path


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
