"""The pods of deploy/kubernetes on a node: made by the DaemonSet controller, run with the image as a kubelet would."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster import objects
from tests.cluster.control_plane import CONTROLLERS, ControlPlane
from tests.cluster.fixtures import require_binaries
from tests.deploy import image
from tests.deploy.kubectl import Kubectl
from tests.deploy.kubelet import Kubelet
from tests.lab import client
from tests.lab.servers import PORT, Servers
from tests.lab.topology import Lab
from tests.lab.waiting import eventually
from tests.lab.wiring import POD_CIDRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.image import Container

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(image.BUILD_SECONDS + 300)]

Document = dict[str, Any]

MANIFESTS: Final = image.ROOT / "deploy" / "kubernetes"
NAMESPACE: Final = "uproxy-system"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Give a network with an endpoint in pod2."""
    require_binaries("kubectl")
    image.build()
    with Lab() as made, Servers([made.pod2]):
        yield made


@pytest.fixture(scope="module")
def control_plane(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give a control plane on the router, with the node's Node and its own address in the ConfigMap."""
    folder = tmp_path_factory.mktemp("control-plane")
    address = lab.router.address(4)
    with ControlPlane(folder, address=address, namespace=lab.router.namespace) as made:
        made.controllers(*CONTROLLERS, "daemonset-controller")
        objects.create_node(made.admin, lab.node.name, lab.node.addresses, pod_cidrs=POD_CIDRS[:2])
        made.admin.patch("Node", lab.node.name, {"metadata": {"labels": {"kubernetes.io/os": "linux"}}})
        for document in Kubectl(folder).render(MANIFESTS):
            if document["kind"] == "ConfigMap":
                document["data"].update(apiServerHost=address, apiServerPort=str(made.port))
            made.admin.create(document, fieldValidation="Strict")
        yield made


@pytest.fixture(scope="module")
def kubelet(control_plane: ControlPlane, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Kubelet:
    """Give the node's kubelet."""
    return Kubelet(control_plane, lab.node, tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def pod(control_plane: ControlPlane) -> Document:
    """Give the Pod that the DaemonSet controller has made for the node."""

    def made() -> Document:
        pods = control_plane.admin.list("Pod", NAMESPACE)["items"]
        assert len(pods) == 1
        return dict(pods[0])

    return eventually(made, within=30)


@pytest.fixture(scope="module")
def cluster_ip(control_plane: ControlPlane, lab: Lab) -> str:
    """Give the address of a Service with a ready Pod behind it."""
    admin = control_plane.admin
    made = admin.create(objects.service("default", "web", {"http": PORT}))
    objects.create_pod(admin, "default", "web-1", lab.pod2.addresses, node=lab.node.name, labels={"app": "web"})
    return str(made["spec"]["clusterIP"])


def healthy(container: Container, pod: Document) -> None:
    """Wait until the Pod's probes would all succeed."""
    container.wait_healthy()
    (spec,) = pod["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container.get(spec[probe]["httpGet"]["path"]).status == 200, container.log()


def test_a_pod_of_the_daemonset_serves_with_nothing_but_what_the_manifests_give_it(
    control_plane: ControlPlane, lab: Lab, kubelet: Kubelet, pod: Document, cluster_ip: str
) -> None:
    with kubelet.prepare(pod)() as container:
        healthy(container, pod)
        assert client.poll(lab.pod, cluster_ip, PORT).name == "pod2", container.log()
        eventually(lambda: {stat.S_IMODE(path.stat().st_mode) for path in kubelet.state("state").iterdir()} == {0o600}, within=30)
        events = [each for each in control_plane.admin.list("Event", "default")["items"] if each["regarding"]["kind"] == "Node"]
        assert [(each["reason"], each["reportingInstance"]) for each in events] == [("Starting", lab.node.name)]
        assert container.stop() == 0, container.log()
    asked = [each for each in control_plane.requests() if each.user == f"system:serviceaccount:{NAMESPACE}:uproxy"]
    assert asked
    assert [each for each in asked if each.code >= 400] == []


def test_a_pod_that_starts_while_the_api_server_is_away_serves_what_was_last_known(
    control_plane: ControlPlane, lab: Lab, kubelet: Kubelet, pod: Document, cluster_ip: str
) -> None:
    start = kubelet.prepare(pod)
    with start() as container:
        healthy(container, pod)
        client.poll(lab.pod, cluster_ip, PORT)
        eventually(lambda: any(kubelet.state("state").iterdir()), within=30)
        container.stop()
    control_plane.kill()
    with start() as container:
        healthy(container, pod)
        assert client.poll(lab.pod, cluster_ip, PORT).name == "pod2", container.log()
    control_plane.start()
