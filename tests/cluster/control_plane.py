"""A control plane of a test's own: etcd and kube-apiserver on loopback or in a network namespace, ready in seconds.

Owns its folder, its processes, its authority and its users. Everything that may happen to an API server is a method:
stopped, killed, paused, its certificate renewed, its history compacted, its data taken back to a snapshot.
The port and the data stay the same all along. Knows nothing of uproxy.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from tests.cluster import audit, kubeconfigs, service_accounts
from tests.cluster.api_client import ApiClient, Refusal
from tests.cluster.binaries import binary
from tests.cluster.certificates import ADMIN, NODE_PROXIER, Authority, Certificate, User, write_whole
from tests.cluster.etcd import CLIENTS, Etcd
from tests.cluster.program import Program
from tests.cluster.relay import Relay
from tests.lab.ports import free_port
from tests.lab.waiting import eventually
from tests.lab.wiring import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.lab.namespaces import Namespace

SERVICE_RANGES: Final = ("10.96.0.0/16", "fd10:96::/112")
"""65,534 addresses of each family, enough for 10,000 Services; the lab's router sends them to the node."""
NAMES: Final = (
    "localhost", "127.0.0.1", "::1", "kubernetes.default.svc", "10.96.0.1", "fd10:96::1",
    *(address for pair in ADDRESSES.values() for address in pair),
)  # fmt: skip
"""Of the server's certificate: itself, its Service, and every host of the lab, where a relay may listen."""
STATIC_TOKENS: Final = {user: f"static-token-of-{user.name}" for user in (ADMIN, NODE_PROXIER)}
START_SECONDS: Final = 60.0
"""4 s when nothing else runs."""
STOP_SECONDS: Final = 70.0
"""An API server lets requests end for up to 60 s."""
CONTROLLERS: Final = ("endpointslice-controller", "endpointslice-mirroring-controller", "namespace-controller")


class ControlPlane:
    """Use it as a context manager. folder: for all its files, keys and logs. address: where the API server listens.

    namespace: where it runs. flags: more of kube-apiserver's. etcd: another one than was built. names: more names and
    addresses for the server's certificate.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        namespace: Namespace | None = None,
        flags: Sequence[str] = (),
        etcd: Path | None = None,
        names: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder: Final = folder
        self.authority: Final = Authority()
        self.namespace: Final = namespace
        self._address = address
        self._names = (*dict.fromkeys((*NAMES, address, *names)),)
        self.port: Final = namespace.call(free_port, address) if namespace else free_port(address)
        self.url: Final = f"https://{f'[{address}]' if ':' in address else address}:{self.port}"
        self.etcd: Final = Etcd(folder, etcd)
        self._write_keys()
        self.api_server: Final = Program([*self._argv(), *flags], folder, namespace=namespace)
        self._controllers: Program | None = None
        self._clients: list[ApiClient] = []
        self.admin: Final = self.client(ADMIN)

    def __enter__(self) -> Self:
        try:
            self.etcd.start()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove the data; keys and logs stay."""
        for program in (self._controllers, self.api_server):
            if program is not None:
                program.kill()
        self.etcd.remove()
        for client in self._clients:
            client.close()

    def start(self) -> None:
        """Start the API server and wait until it is ready."""
        self.api_server.start()
        eventually(self.is_ready, within=START_SECONDS)

    def is_ready(self) -> bool:
        """Ask /readyz, and for the API server's own Service, which it makes a moment later.

        Raises RuntimeError with the end of its log when the process has ended.
        """
        if not self.api_server.is_running():
            raise RuntimeError(f"kube-apiserver ended:\n{self.api_server.log()}")
        try:
            self.admin.request("GET", "/readyz")
            self.admin.get("Service", "kubernetes", "default")
        except (Refusal, OSError):
            return False
        return True

    def stop(self) -> None:
        """Ask the API server to end and wait for it."""
        self.api_server.stop(STOP_SECONDS)

    def kill(self) -> None:
        """End the API server at once."""
        self.api_server.kill()

    def restart(self) -> None:
        """Kill the API server and start it again with the same data."""
        self.kill()
        self.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the API server hang for a while: connections stay open, nothing is answered."""
        self.api_server.pause()
        try:
            yield
        finally:
            self.api_server.resume()

    def renew_certificate(self, authority: Authority | None = None, *, expired: bool = False) -> None:
        """Serve a new certificate, on the same port and without a restart; wait until it is served.

        authority: who signs it, if not the one that kubeconfigs trust.
        """
        certificate = (authority or self.authority).server(*self._names, expired=expired)
        certificate.write(self.folder, "server")
        eventually(lambda: self.served_certificate() in certificate.chain.decode(), within=START_SECONDS)

    def served_certificate(self) -> str:
        """Ask for the certificate that new connections get, PEM."""
        with self.connect((self._address, self.port)) as raw:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
            with tls.wrap_socket(raw) as connection:
                return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")

    def compact(self) -> int:
        """Forget the history, in etcd and in the API server, which starts again: watches and lists from before get 410.

        Gives the oldest resourceVersion that is still good.
        """
        self.kill()
        revision = self.etcd.compact()
        self.start()
        return revision

    def snapshot(self) -> Path:
        """Save all objects as they are now."""
        return self.etcd.snapshot()

    def restore(self, snapshot: Path) -> None:
        """Take all objects back to a snapshot: resourceVersions go backwards."""
        self.kill()
        self.etcd.restore(snapshot)
        self.start()

    def controllers(self, *names: str) -> Program:
        """Start kube-controller-manager with these controllers (CONTROLLERS if none is named), once."""
        if self._controllers is None:
            argv = [
                str(binary("kube-controller-manager")),
                f"--kubeconfig={self.kubeconfig(ADMIN)}",
                f"--controllers={','.join(names or CONTROLLERS)}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
                "--concurrent-service-endpoint-syncs=20",
            ]
            self._controllers = Program(argv, self.folder, namespace=self.namespace)
            self._controllers.start()
        return self._controllers

    def connect(self, address: tuple[str, int]) -> socket.socket:
        """Open a TCP connection from where the API server runs."""
        if self.namespace:
            return self.namespace.call(socket.create_connection, address, 5)
        return socket.create_connection(address, 5)

    def client(self, user: User = ADMIN, token: str = "") -> ApiClient:
        """Make a client for a user, by certificate, or for whoever the token is; it is closed with the control plane."""
        certificate = None if token else self._client_certificate(user).write(self.folder, user.name)
        made = ApiClient(self.url, certificate=certificate, token=token, connect=self.connect)
        self._clients.append(made)
        return made

    def kubeconfig(
        self,
        user: User | kubeconfigs.Credentials = NODE_PROXIER,
        *,
        server: str = "",
        authority: bytes = b"",
        path: Path | None = None,
    ) -> Path:
        """Write a kubeconfig for a user, by certificate, or for these credentials (kubeconfigs.with_...).

        server: URL, if not straight to the API server; authority: PEM, if another one than ours.
        """
        credentials = kubeconfigs.with_certificate(self._client_certificate(user)) if isinstance(user, User) else user
        name = user.name if isinstance(user, User) else "-".join(user)
        target = path or self.folder / f"{name.replace(':', '-')}-{random.randrange(10**9):09}.kubeconfig"
        return kubeconfigs.write(target, server or self.url, authority or self.authority.pem, credentials)

    def service_account(self, namespace: str, name: str = "uproxy") -> service_accounts.ServiceAccount:
        """Make a ServiceAccount bound to exactly ClusterRole system:node-proxier."""
        return service_accounts.create(self.admin, (self.folder / "service-account.key").read_bytes(), namespace, name)

    def relay(
        self, *, namespace: Namespace | None = None, address: str = "127.0.0.1", authority: Authority | None = None, plain: bool = False
    ) -> Relay:
        """Make a relay before the API server, listening on any address, in any network namespace.

        authority: who signed its certificate, if not ours. plain: it passes TLS on, so that client certificates work.
        """
        signed = (authority or self.authority).server(*self._names, address)
        files = None if plain else signed.write(self.folder, f"relay-{random.randrange(10**9):09}")
        upstream = (self._address, self.port)
        return Relay(lambda: self.connect(upstream), certificate=files, address=address, namespace=namespace)

    def requests(self, user: str = "") -> list[audit.Request]:
        """Tell what the API server was asked so far, by anybody but the tests, or by one user."""
        return audit.read(self.folder / "audit.log", user)

    def _client_certificate(self, user: User) -> Certificate:
        return self.authority.client(user)

    def _write_keys(self) -> None:
        self.authority.write(self.folder / "ca.crt")
        self.authority.server(*self._names).write(self.folder, "server")
        self.authority.client(User("service-account")).write(self.folder, "service-account")
        rows = (f'{token},{user.name},{user.name},"{user.group}"\n' for user, token in STATIC_TOKENS.items())
        write_whole(self.folder / "tokens.csv", "".join(rows).encode())
        (self.folder / "audit-policy.json").write_text(json.dumps(audit.POLICY), encoding="utf-8")

    def _argv(self) -> list[str]:
        loopback = self._address in {"127.0.0.1", "::1"}
        return [
            str(binary("kube-apiserver")),
            f"--etcd-servers={CLIENTS}",
            "--etcd-compaction-interval=0",
            f"--bind-address={self._address}",
            f"--secure-port={self.port}",
            # Nobody can be sent to loopback: then Service default/kubernetes has no endpoints.
            *(["--endpoint-reconciler-type=none"] if loopback else []),
            f"--advertise-address={'192.0.2.1' if loopback else self._address}",
            "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key",
            "--client-ca-file=ca.crt",
            "--token-auth-file=tokens.csv",
            f"--service-account-issuer={service_accounts.ISSUER}",
            "--service-account-key-file=service-account.key",
            "--service-account-signing-key-file=service-account.key",
            f"--service-cluster-ip-range={','.join(SERVICE_RANGES)}",
            "--authorization-mode=RBAC",
            # Pods are made without the controller that makes their ServiceAccounts.
            "--disable-admission-plugins=ServiceAccount",
            "--audit-policy-file=audit-policy.json",
            "--audit-log-path=audit.log",
        ]
