"""Nodes that a real API server feeds: the lab with endpoints in every host, a control plane beyond its router, uproxies.

The API server runs in the host `outside`, so that nodes reach it over the network and Service default/kubernetes leads
to it. Its controllers make the slices; Pods are the lab's hosts. The kubelet's part (addresses, readiness) is the test's.
"""

from __future__ import annotations

import itertools
import json
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from tests.cluster import objects
from tests.cluster.control_plane import ControlPlane
from tests.lab import client
from tests.lab.process import Uproxy
from tests.lab.servers import PORT, Servers
from tests.lab.topology import Lab
from tests.lab.waiting import eventually
from tests.lab.wiring import ADDRESSES, POD_CIDRS, REMOTE_POD_CIDRS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from tests.cluster.api_client import ApiClient, Document
    from tests.lab.topology import Host

SERVED: Final = 80
"""The Services' port, TCP and UDP."""
FIXED_PORT: Final = 30050
"""A node port that the API server gives to nobody of its own accord: below 30086 it does only when all others are taken."""
PORTS: Final = tuple({"name": name.lower(), "protocol": name, "port": SERVED, "targetPort": PORT} for name in ("TCP", "UDP"))
PROXY_NAME: Final = "service.kubernetes.io/service-proxy-name"
DUAL: Final = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
SECONDS: Final = 15.0
"""For a change to travel: controllers, watch, sync. 0.2 s when nothing else runs, more while controllers find back to an API server."""
AT_ONCE: Final = 0.1
"""Seconds that a client waits for an answer or a refusal that is there already: an hundredth of a lost SYN's pause."""
NO_KUBECONFIG: Final = Path()
POD_CIDRS_OF: Final = {"node": POD_CIDRS[:2], "node2": REMOTE_POD_CIDRS}
"""A Node has at most one of each family."""
AFTER_SO_MANY: Final = 3
"""As many connections for each endpoint show who gets any."""


class Cluster:
    """All of it, without uproxy. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._numbers = itertools.count(1)
        with ExitStack() as stack:
            self.lab: Final = stack.enter_context(Lab())
            stack.enter_context(Servers([self.lab[name] for name in ADDRESSES]))
            outside = self.lab.outside
            plane = ControlPlane(folder / "control-plane", address=outside.address(4), namespace=outside.namespace)
            self.plane: Final = stack.enter_context(plane)
            self.admin: Final = plane.admin
            plane.controllers()
            for name in POD_CIDRS_OF:
                self.register(name)
            self._owned = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owned.close()

    def register(self, name: str) -> Document:
        """Make a host's Node object, as its kubelet does when it starts."""
        return objects.create_node(self.admin, name, ADDRESSES[name], pod_cidrs=POD_CIDRS_OF[name])

    @contextmanager
    def running(
        self,
        *flags: str,
        host: Host | None = None,
        kubeconfig: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        healthy: bool = True,
    ) -> Iterator[Uproxy]:
        """Run uproxy on a host (the node if none is named) until the body ends; it keeps no state on disk unless flags say so.

        kubeconfig: its way to the API server, if not that of system:kube-proxy; NO_KUBECONFIG: none is given.
        settings: of its configuration file. healthy: wait until it is.
        """
        access = () if kubeconfig is NO_KUBECONFIG else ("--kubeconfig", str(kubeconfig or self.plane.kubeconfig()))
        usual = (*access, "--config", str(self._configuration(settings or {})), "--state-dir", "")
        started = Uproxy(host or self.lab.node, *usual, *flags, environment={"KUBECONFIG": "", **(environment or {})}, prefix=prefix)
        try:
            if healthy:
                started.wait_healthy()
            yield started
        finally:
            started.kill()
        assert "Traceback" not in started.log(), started.log()

    @contextmanager
    def without_api_server(self) -> Iterator[None]:
        """Have the API server killed while the body runs; afterwards at the latest it is back, and its controllers at once.

        They would find back by themselves, as slowly as everybody who backs off.
        """
        self.plane.kill()
        try:
            yield
        finally:
            if not self.plane.api_server.is_running():
                self.plane.start()
            controllers = self.plane.controllers()
            controllers.kill()
            controllers.start()

    def _configuration(self, settings: Mapping[str, Any]) -> Path:
        path = self.folder / f"settings-{next(self._numbers)}.yaml"
        head = {"apiVersion": "uproxy.io/v1alpha1", "kind": "UproxyConfiguration"}
        path.write_text(json.dumps({**head, **settings}), encoding="utf-8")
        return path

    @contextmanager
    def tenant(self) -> Iterator[Tenant]:
        """Make an API namespace for one test, and remove it with all that is in it."""
        with self.admin.namespace() as name:
            yield Tenant(self.lab, self.admin, name)

    def until_answered_by(self, who: Host, address: str, *names: str, port: int = SERVED, within: float = SECONDS) -> None:
        """Wait until new connections go to these hosts and to no others."""
        attempts = AFTER_SO_MANY * len(names)

        def answering() -> bool:
            return {client.ask(who, address, port, patience=AT_ONCE).name for _ in range(attempts)} == set(names)

        eventually(answering, within=within)


class Made(NamedTuple):
    """A Service as the API server made it."""

    name: str
    uid: str
    vips: tuple[str, ...]
    node_ports: tuple[int, ...]

    @classmethod
    def of(cls, document: Document) -> Made:
        """Read a Service object."""
        metadata, spec = document["metadata"], document["spec"]
        node_ports = tuple(port.get("nodePort", 0) for port in spec.get("ports", ()))
        return cls(metadata["name"], metadata["uid"], tuple(spec.get("clusterIPs", ())), node_ports)

    @property
    def vip(self) -> str:
        """The first cluster IP."""
        return self.vips[0]


class Tenant:
    """What one test makes in an API namespace of its own. Pods belong to the Service whose name their label `app` is."""

    def __init__(self, lab: Lab, admin: ApiClient, namespace: str) -> None:
        self.namespace: Final = namespace
        self._lab = lab
        self._admin = admin

    def serve(self, name: str, *hosts: Host, **spec: Any) -> Made:  # noqa: ANN401 - any field of a Service's spec
        """Deploy a Service and wait until a pod of the first node is answered on its first address."""
        made = self.deploy(name, *hosts, **spec)
        client.poll(self._lab.pod, made.vip, SERVED, within=SECONDS)
        return made

    def deploy(self, name: str, *hosts: Host, **spec: Any) -> Made:  # noqa: ANN401 - any field of a Service's spec
        """Make a Service with these hosts behind it."""
        for host in hosts:
            self.add_pod(name, host)
        return self.create(name, **spec)

    def create(self, name: str, **spec: Any) -> Made:  # noqa: ANN401 - any field of a Service's spec
        """Make a Service, for which there may be no Pods."""
        document = objects.service(self.namespace, name, {})
        document["spec"] |= {"ports": list(PORTS), **spec}
        return Made.of(self._admin.create(document))

    def change(self, name: str, labels: Mapping[str, str | None] | None = None, **spec: Any) -> Made:  # noqa: ANN401 - any field
        """Patch a Service: its labels (None takes one off) and fields of its spec."""
        patch = {"metadata": {"labels": dict(labels or {})}, "spec": spec}
        return Made.of(self._admin.patch("Service", name, patch, self.namespace))

    def delete(self, name: str) -> None:
        """Delete a Service; its Pods stay."""
        self._admin.delete("Service", name, self.namespace)

    def add_pod(self, app: str, host: Host, *, ready: bool = True) -> None:
        """Have a Pod appear: the host, with its addresses."""
        node = "node2" if host.name == "remote" else "node"
        objects.create_pod(self._admin, self.namespace, _pod(app, host), host.addresses, node=node, labels={"app": app}, ready=ready)

    def set_ready(self, app: str, host: Host, *, ready: bool) -> None:
        """Have a Pod's readiness probe succeed or fail."""
        objects.set_ready(self._admin, self.namespace, _pod(app, host), ready=ready)

    def lists_endpoint(self, name: str, *, ready: bool) -> bool:
        """Tell whether the controller has made a slice of the Service with such an endpoint."""
        slices = self._admin.list("EndpointSlice", self.namespace, labelSelector=f"kubernetes.io/service-name={name}")["items"]
        return any(each["conditions"]["ready"] is ready for found in slices for each in found["endpoints"] or ())

    def remove_pod(self, app: str, host: Host, *, gracefully: bool = False) -> None:
        """Delete a Pod; gracefully: it terminates until it is deleted once more without grace."""
        self._admin.delete("Pod", _pod(app, host), self.namespace, grace_seconds=600 if gracefully else 0)


def _pod(app: str, host: Host) -> str:
    return f"{app}-{host.name}"
