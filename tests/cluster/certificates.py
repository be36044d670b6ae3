"""Certificates of the test's own authorities, as files and as values.

Owns nothing that lasts: keys live in a test's folder. An authority is a trustme CA with Kubernetes' meaning of
names: a client certificate's common name is the user, its organisation the group.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import trustme

if TYPE_CHECKING:
    from pathlib import Path


class User(NamedTuple):
    """Who asks: a name and at most one group."""

    name: str
    group: str = ""


ADMIN: Final = User("lab-admin", "system:masters")
NODE_PROXIER: Final = User("system:kube-proxy")
"""Bound by the API server itself to ClusterRole system:node-proxier and to nothing else."""


class Certificate(NamedTuple):
    """A certificate with what leads to its authority, and its key, both PEM."""

    chain: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.crt and NAME.key; who reads them meanwhile sees a whole one. Gives both paths."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, self, strict=True):
            write_whole(path, content)
        return paths


class Authority:
    """Signs certificates. Two of them know nothing of each other."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem: Final[bytes] = self._ca.cert_pem.bytes()

    def write(self, path: Path) -> Path:
        """Write the authority's own certificate."""
        write_whole(path, self.pem)
        return path

    def server(self, *names: str, expired: bool = False) -> Certificate:
        """Sign a server's certificate for names and addresses."""
        return _certificate(self._ca.issue_cert(*names, not_before=_days(-2), not_after=_days(-1 if expired else 365)))

    def client(self, user: User, *, expired: bool = False) -> Certificate:
        """Sign a user's certificate."""
        # Without an alternative name trustme adds an empty list of them, marked critical, which Go refuses.
        leaf = self._ca.issue_cert(
            "client.invalid",
            common_name=user.name,
            organization_name=user.group or None,
            not_before=_days(-2),
            not_after=_days(-1 if expired else 365),
        )
        return _certificate(leaf)


def _certificate(leaf: trustme.LeafCert) -> Certificate:
    return Certificate(b"".join(blob.bytes() for blob in leaf.cert_chain_pems), leaf.private_key_pem.bytes())


def _days(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by renaming, readable by its owner alone."""
    partial = path.with_name(f".{path.name}.new")
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.replace(path)
