"""ServiceAccounts with the rights of a service proxy, and their tokens: granted, expiring, revoked.

The API server remembers for 10 s that a token was good (its token cache), whatever happens meanwhile.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cluster.api_client import ApiClient, Document

ISSUER: Final = "https://kubernetes.default.svc"
NODE_PROXIER_ROLE: Final = "system:node-proxier"
TOKEN_CACHE_SECONDS: Final = 10.0
_COORDINATE_BYTES: Final = 32
"""Of a P-256 signature: RFC 7518, section 3.4."""


@dataclass(frozen=True)
class ServiceAccount:
    """One account. key: PEM of the API server's signing key, on P-256."""

    admin: ApiClient
    key: bytes
    metadata: Document

    @property
    def user(self) -> str:
        """The user name that its tokens stand for."""
        return f"system:serviceaccount:{self.metadata['namespace']}:{self.metadata['name']}"

    def token(self) -> str:
        """Have the API server grant a token for an hour: a TokenRequest, as the kubelet makes it."""
        path = self.admin.path("ServiceAccount", self.metadata["namespace"], self.metadata["name"]) + "/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        granted: str = self.admin.request("POST", path, request)["status"]["token"]
        return granted

    def token_for(self, seconds: float) -> str:
        """Sign a token that is valid for seconds: the API server itself grants none under ten minutes."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": [ISSUER],
            "sub": self.user,
            "iat": now,
            "nbf": now,
            "exp": int(now + seconds),
            "kubernetes.io": {
                "namespace": self.metadata["namespace"],
                "serviceaccount": {"name": self.metadata["name"], "uid": self.metadata["uid"]},
            },
        }
        return signed(self.key, claims)

    def revoke(self) -> ServiceAccount:
        """Make all tokens so far worthless: the account is made anew, with the same name and the same rights."""
        namespace, name = self.metadata["namespace"], self.metadata["name"]
        self.admin.delete("ServiceAccount", name, namespace)
        return ServiceAccount(self.admin, self.key, _account(self.admin, namespace, name))


def create(admin: ApiClient, key: bytes, namespace: str, name: str) -> ServiceAccount:
    """Make an account, bound to exactly ClusterRole system:node-proxier."""
    account = _account(admin, namespace, name)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        # Goes with its namespace where garbage collection runs, and stands for nobody where it does not.
        "metadata": {"name": f"{namespace}-{name}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NODE_PROXIER_ROLE},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
    }
    admin.apply(binding)
    return ServiceAccount(admin, key, account)


def _account(admin: ApiClient, namespace: str, name: str) -> Document:
    document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}}
    metadata: Document = admin.create(document)["metadata"]
    return metadata


def signed(key: bytes, claims: Mapping[str, object]) -> str:
    """Sign a JSON web token with ES256 (RFC 7515, RFC 7518). key: PEM of a key on P-256."""
    private = load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    content = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, claims))
    pair = utils.decode_dss_signature(private.sign(content, ec.ECDSA(SHA256())))
    return b".".join((content, _base64(b"".join(number.to_bytes(_COORDINATE_BYTES) for number in pair)))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
