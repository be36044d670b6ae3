"""The tests' own client of the API server: synchronous, JSON in dicts, one method per verb.

Knows objects only by apiVersion and kind; where they are found is asked of the API server itself (discovery).
It verifies no certificate: faults are made for what is tested, not for what makes them.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

Document = dict[str, Any]

API_VERSIONS: Final[Mapping[str, str]] = {
    "EndpointSlice": "discovery.k8s.io/v1",
    "Event": "events.k8s.io/v1",
    "ServiceCIDR": "networking.k8s.io/v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "FlowSchema": "flowcontrol.apiserver.k8s.io/v1",
    "PriorityLevelConfiguration": "flowcontrol.apiserver.k8s.io/v1",
}
"""Of the kinds that tests name without their apiVersion; the others are v1."""

REQUEST_SECONDS: Final = 30.0
JSON: Final = "application/json"
FIELD_MANAGER: Final = "tests"
_STALE: Final = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLError)
"""What a kept connection fails with when the server has gone away since."""


class Refusal(Exception):
    """The API server said no: its HTTP status, its reason (NotFound, AlreadyExists, ...) and its message."""

    def __init__(self, code: int, status: Document) -> None:
        self.code: Final = code
        self.reason: Final[str] = status.get("reason", "")
        self.status: Final = status
        super().__init__(f"{code} {self.reason}: {status.get('message', status)}")


class Resource(NamedTuple):
    """Where a kind's objects are."""

    prefix: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        """Make the path of a collection or of one object; of all namespaces when none is given."""
        parts = [self.prefix, *(("namespaces", namespace) if self.namespaced and namespace else ()), self.plural]
        return "/".join([*parts, *([name] if name else [])])


class ApiClient:
    """A client of one API server for one user. Threads may share it. Close it: it keeps its connections.

    connect: opens the TCP connection, where it does not start here (from a network namespace, for example).
    """

    def __init__(
        self,
        url: str,
        *,
        certificate: tuple[Path, Path] | None = None,
        token: str = "",
        connect: Callable[[tuple[str, int]], socket.socket] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 443)
        self._connect = connect or (lambda address: socket.create_connection(address, REQUEST_SECONDS))
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        if certificate:
            self._tls.load_cert_chain(*certificate)
        self._idle: deque[http.client.HTTPSConnection] = deque()
        self._resources: dict[tuple[str, str], Resource] = {}

    def create(self, document: Document, **query: str) -> Document:
        """POST an object (fieldValidation="Strict", dryRun="All" and the like are query parameters)."""
        return self.request("POST", self._collection_of(document), document, **query)

    def replace(self, document: Document, **query: str) -> Document:
        """PUT an object in the place of the one that has its name."""
        return self.request("PUT", self._path_of(document), document, **query)

    def apply(self, document: Document, **query: str) -> Document:
        """Create an object or bring it to what the document says: server-side apply, as `kubectl apply --server-side --force-conflicts`."""
        asked = {"fieldManager": FIELD_MANAGER, "force": "true", **query}
        return self.request("PATCH", self._path_of(document), document, "application/apply-patch+yaml", **asked)

    def get(self, kind: str, name: str, namespace: str = "") -> Document:
        """GET one object."""
        return self.request("GET", self.path(kind, namespace, name))

    def list(self, kind: str, namespace: str = "", **query: str) -> Document:
        """GET a collection: the list object, whose "items" have neither kind nor apiVersion."""
        return self.request("GET", self.path(kind, namespace), None, **query)

    def patch(self, kind: str, name: str, change: Document, namespace: str = "", *, subresource: str = "") -> Document:
        """PATCH an object, or its subresource ("status"), with a merge patch (RFC 7386)."""
        path = self.path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, change, "application/merge-patch+json")

    def delete(self, kind: str, name: str, namespace: str = "", *, grace_seconds: int | None = None) -> Document:
        """DELETE an object. A Pod with a grace period stays, terminating, until a kubelet (or a test) deletes it with none."""
        options = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        return self.request("DELETE", self.path(kind, namespace, name), options)

    def delete_all(self, kind: str, namespace: str, **query: str) -> None:
        """DELETE a namespace's objects of a kind at once, without a grace period."""
        self.request("DELETE", self.path(kind, namespace), {"gracePeriodSeconds": 0}, **query)

    def watch(self, kind: str, namespace: str = "", *, seconds: int = 5, **query: str) -> Generator[Document, None, None]:
        """GET a collection's changes, each a dict with type and object, until the API server ends it after seconds."""
        asked = urlencode({"watch": "true", "timeoutSeconds": seconds, **query})
        connection = self._open()
        try:
            connection.request("GET", f"{self.path(kind, namespace)}?{asked}", headers=dict(self._headers))
            with connection.getresponse() as response:
                if response.status >= http.HTTPStatus.BAD_REQUEST:
                    raise Refusal(response.status, json.loads(response.read()))
                yield from map(json.loads, response)
        finally:
            connection.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the API server busy with a request whose body does not come, for a minute at most."""
        connection = self._open()
        try:
            connection.putrequest("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews")
            for name, value in {**self._headers, "Content-Type": JSON, "Content-Length": "100"}.items():
                connection.putheader(name, value)
            connection.endheaders()
            yield
        finally:
            connection.close()

    @contextmanager
    def namespace(self, prefix: str = "test-") -> Iterator[str]:
        """Make a namespace with a name of its own, and remove it with what is in it, with or without its controller."""
        made = self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": prefix}})
        name: str = made["metadata"]["name"]
        try:
            yield name
        finally:
            for kind in ("Service", "Pod", "EndpointSlice", "Event", "ServiceAccount", "DaemonSet", "Deployment"):
                self.delete_all(kind, name)
            removed = self.delete("Namespace", name)
            removed["spec"]["finalizers"] = []
            self._finalize(removed)

    def _finalize(self, namespace: Document) -> None:
        try:
            self.request("PUT", self.path("Namespace", "", namespace["metadata"]["name"]) + "/finalize", namespace)
        except Refusal as refusal:
            # The controller was faster.
            if refusal.code not in {http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT}:
                raise

    def path(self, kind: str, namespace: str = "", name: str = "", api_version: str = "") -> str:
        """Make the path of a kind's collection, or of one object of it."""
        return self._resource(api_version or API_VERSIONS.get(kind, "v1"), kind).path(namespace, name)

    def _collection_of(self, document: Document) -> str:
        metadata = document["metadata"]
        return self.path(document["kind"], metadata.get("namespace", ""), api_version=document["apiVersion"])

    def _path_of(self, document: Document) -> str:
        return f"{self._collection_of(document)}/{document['metadata']['name']}"

    def _resource(self, api_version: str, kind: str) -> Resource:
        found = self._resources.get((api_version, kind))
        return found or self._discover(api_version)[api_version, kind]

    def _discover(self, api_version: str) -> Mapping[tuple[str, str], Resource]:
        prefix = f"/{'apis' if '/' in api_version else 'api'}/{api_version}"
        for each in self.request("GET", prefix)["resources"]:
            if "/" not in each["name"]:
                self._resources[api_version, each["kind"]] = Resource(prefix, each["name"], each["namespaced"])
        return self._resources

    def request(self, method: str, path: str, body: Document | None = None, content_type: str = JSON, **query: str) -> Document:
        """Ask the API server; raises Refusal when it says no and OSError when it cannot be reached."""
        target = f"{path}?{urlencode(query)}" if query else path
        code, answer = self.exchange(method, target, body, content_type)
        document: Document = json.loads(answer) if answer.startswith(b"{") else {"message": answer.decode(errors="replace")}
        if code >= http.HTTPStatus.BAD_REQUEST:
            raise Refusal(code, document)
        return document

    def exchange(self, method: str, target: str, body: Document | None, content_type: str) -> tuple[int, bytes]:
        """Send one request and give the HTTP status and the body, whatever they are."""
        headers = {**self._headers, "Content-Type": content_type}
        content = None if body is None else json.dumps(body).encode()
        idle = self._take_idle()
        if idle is not None:
            try:
                return self._over(idle, method, target, content, headers)
            except _STALE:
                self.close()
        return self._over(self._open(), method, target, content, headers)

    def close(self) -> None:
        """Close the connections that are not in use; the next request opens one."""
        while (idle := self._take_idle()) is not None:
            idle.close()

    def _take_idle(self) -> http.client.HTTPSConnection | None:
        """Give a connection that nobody uses. Other threads take some at the same time: asking first whether there is one is no use."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _open(self) -> http.client.HTTPSConnection:
        raw = self._connect(self._address)
        raw.settimeout(REQUEST_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPSConnection(*self._address)
        try:
            connection.sock = self._tls.wrap_socket(raw)
        except OSError:
            raw.close()
            raise
        return connection

    def _over(
        self, connection: http.client.HTTPSConnection, method: str, target: str, content: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        try:
            connection.request(method, target, content, dict(headers))
            with connection.getresponse() as response:
                answer = response.status, response.read()
        except OSError:
            connection.close()
            raise
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(f"{method} {target}: half an answer: {error}") from error
        self._idle.append(connection)
        return answer
