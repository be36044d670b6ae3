"""deploy/kubernetes: kubectl and a real API server take it as it is, it grants little, and it says what uproxy understands."""

from __future__ import annotations

import copy
import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.cluster.api_client import Refusal
from tests.cluster.certificates import ADMIN
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fixtures import require_binaries
from tests.cluster.service_accounts import NODE_PROXIER_ROLE
from tests.deploy.kubectl import Kubectl
from tests.lab.waiting import eventually
from uproxy import __version__
from uproxy.config import Config
from uproxy.config_file import ENVIRONMENT, load
from uproxy.config_rules import host_and_port
from uproxy.sources.kubernetes.kinds import collections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.api_client import ApiClient

Document = dict[str, Any]

PROJECT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = PROJECT / "deploy" / "kubernetes"
COMPONENT: Final = FOLDER / "beside-kube-proxy"
NAMESPACE: Final = "uproxy-system"
BASE: Final = "in kube-proxy's place"
BESIDE: Final = "beside kube-proxy"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Give a kubectl that asks no server."""
    require_binaries("kubectl")
    return Kubectl(tmp_path_factory.mktemp("kubectl"))


@pytest.fixture(scope="module")
def rendered(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Document]]:
    """Give the objects of both ways to install, the second one as docs say: a kustomization with the component."""
    own = tmp_path_factory.mktemp("own")
    # Roots are relative and real paths in kustomize.
    resources, components = ([f"../{'../' * (len(own.resolve().parts) - 2)}{path.relative_to('/')}"] for path in (FOLDER, COMPONENT))
    kustomization = {"kind": "Kustomization", "resources": resources, "components": components}
    (own / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return {BASE: kubectl.render(FOLDER), BESIDE: kubectl.render(own)}


@pytest.fixture(params=[BASE, BESIDE])
def way(request: pytest.FixtureRequest) -> str:
    """Give one of the two ways to install."""
    return str(request.param)


@pytest.fixture
def objects(rendered: dict[str, list[Document]], way: str) -> dict[str, Document]:
    """Give the objects by kind: there is one of each."""
    by_kind = {each["kind"]: each for each in rendered[way]}
    assert len(by_kind) == len(rendered[way])
    return by_kind


@pytest.fixture
def pod(objects: dict[str, Document]) -> Document:
    """Give the spec of the pods."""
    spec: Document = objects["DaemonSet"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Document) -> Document:
    """Give the one container."""
    (only,) = pod["containers"]
    return dict(only)


@pytest.fixture
def config(objects: dict[str, Document], tmp_path: Path) -> Config:
    """Give the settings as uproxy reads them from the ConfigMap."""
    path = tmp_path / "uproxy.yaml"
    path.write_text(objects["ConfigMap"]["data"]["uproxy.yaml"], encoding="utf-8")
    settings, passed_over = load(str(path), {"NODE_NAME": "n"})
    assert passed_over == []
    return settings


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give a control plane of this module's own: what is installed has fixed names."""
    require_binaries()
    with ControlPlane(tmp_path_factory.mktemp("cluster")) as own:
        own.controllers("daemonset-controller")
        yield own


@pytest.fixture(scope="module")
def admin(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Give an administrator's kubectl."""
    require_binaries("kubectl")
    return Kubectl(tmp_path_factory.mktemp("kubectl"), cluster.kubeconfig(ADMIN))


@pytest.fixture(scope="module")
def installed(cluster: ControlPlane, admin: Kubectl) -> ControlPlane:
    """Install what is in the folder as the docs say."""
    admin.run("apply", "--kustomize", str(FOLDER), "--validate=strict")
    return cluster


def test_the_kustomization_lists_every_manifest_of_its_folder() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted({path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"})
    patches = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text(encoding="utf-8"))["patches"]
    assert sorted(each["path"] for each in patches) == sorted({path.name for path in COMPONENT.glob("*.yaml")} - {"kustomization.yaml"})


def test_a_real_api_server_takes_every_object_with_strict_validation_and_one_way_follows_the_other(
    admin: Kubectl, installed: ControlPlane, rendered: dict[str, list[Document]]
) -> None:
    for way in (BASE, BESIDE, BASE):
        admin.run("apply", "--validate=strict", "--filename=-", given=yaml.safe_dump_all(rendered[way]))
        for each in rendered[way]:
            there = installed.admin.get(each["kind"], each["metadata"]["name"], each["metadata"].get("namespace", ""))
            assert there["metadata"]["labels"].items() >= each["metadata"]["labels"].items()
            if each["kind"] == "ConfigMap":
                assert there["data"] == each["data"]
            elif each["kind"] == "DaemonSet":
                (now,), (wanted,) = (document["spec"]["template"]["spec"]["containers"] for document in (there, each))
                assert [port["containerPort"] for port in now["ports"]] == [port["containerPort"] for port in wanted["ports"]]
                assert [variable["name"] for variable in now["env"]] == [variable["name"] for variable in wanted["env"]]


def test_without_kustomize_the_files_can_be_applied_as_they_are(admin: Kubectl, installed: ControlPlane) -> None:
    assert installed.is_ready()
    files = [f"--filename={path}" for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"]
    said = admin.run("apply", "--dry-run=server", "--validate=strict", *files)
    assert {line.split()[1] for line in said.splitlines()} == {"unchanged"}, said


def test_strict_validation_would_have_told_of_a_misspelt_field(admin: Kubectl, installed: ControlPlane) -> None:
    assert installed.is_ready()
    wrong = (FOLDER / "daemonset.yaml").read_text(encoding="utf-8").replace("hostNetwork:", "hostNetworks:")
    said = admin.try_run("apply", "--dry-run=server", "--validate=strict", "--filename=-", given=wrong)
    assert said.returncode != 0
    assert 'unknown field "spec.template.spec.hostNetworks"' in said.stderr


def rights(role: Document) -> set[tuple[str, str, str]]:
    """Spell out a role's rules: API group, resource, verb."""
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in role["rules"])
    parts = (itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"]) for rule in role["rules"])
    return set(itertools.chain.from_iterable(parts))


def test_the_role_grants_less_than_kube_proxys(installed: ControlPlane) -> None:
    ours, theirs = (rights(installed.admin.get("ClusterRole", name)) for name in ("uproxy", NODE_PROXIER_ROLE))
    assert ours < theirs


def test_the_role_grants_what_is_asked_for_and_nothing_else(objects: dict[str, Document]) -> None:
    watched = {re.fullmatch(r"/(?:api|apis/([a-z0-9.]+))/v1/([a-z]+)", each.path) for each in collections("n")}
    needed = {(found[1] or "", found[2], verb) for found in watched if found for verb in ("list", "watch")}
    assert len(needed) == 6
    assert rights(objects["ClusterRole"]) == needed | {("events.k8s.io", "events", "create"), ("events.k8s.io", "events", "patch")}


@pytest.fixture
def as_uproxy(installed: ControlPlane) -> ApiClient:
    """Give a client with a token as the kubelet gives it to the pods."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = installed.admin.path("ServiceAccount", NAMESPACE, "uproxy")
    return installed.client(token=installed.admin.request("POST", f"{path}/token", request)["status"]["token"])


def test_the_service_account_may_list_and_watch_what_is_watched(as_uproxy: ApiClient) -> None:
    for each in collections("some-node"):
        assert as_uproxy.request("GET", each.path, None, **each.selectors)["kind"].endswith("List")
        code, _ = as_uproxy.exchange("GET", f"{each.path}?watch=true&timeoutSeconds=1", None, "application/json")
        assert code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/secrets", None),
        ("GET", "/api/v1/pods", None),
        ("GET", "/api/v1/namespaces/uproxy-system/configmaps/uproxy", None),
        ("GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/any", None),
        ("PATCH", "/api/v1/nodes/any", {"spec": {"unschedulable": True}}),
        ("PATCH", "/api/v1/namespaces/default/services/kubernetes/status", {"status": {}}),
        ("DELETE", "/apis/events.k8s.io/v1/namespaces/default/events/any", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_service_account_may_do_nothing_else(as_uproxy: ApiClient, method: str, path: str, body: Document | None) -> None:
    with pytest.raises(Refusal) as refusal:
        as_uproxy.request(method, path, body, "application/merge-patch+json")
    assert refusal.value.code == 403


@pytest.fixture
def tainted_node(installed: ControlPlane) -> Iterator[str]:
    """Give a Node that repels everything that does not insist."""
    taints = [{"key": "example.com/any", "value": "x", "effect": effect} for effect in ("NoSchedule", "NoExecute")]
    metadata = {"name": "tainted", "labels": {"kubernetes.io/os": "linux"}}
    installed.admin.create({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": taints}})
    yield "tainted"
    installed.admin.delete("Node", "tainted")


def test_every_node_gets_a_pod_whatever_its_taints(installed: ControlPlane, tainted_node: str) -> None:
    def only_pod() -> Document:
        (pod,) = installed.admin.list("Pod", NAMESPACE)["items"] or [{}]
        assert pod
        return dict(pod)

    made = eventually(only_pod, within=30)
    assert tainted_node in json.dumps(made["spec"]["affinity"])
    assert made["spec"]["priority"] > 2_000_000_000
    assert {"operator": "Exists"} in made["spec"]["tolerations"]


def test_the_pod_security_level_of_the_namespace_is_the_strictest_that_admits_the_pods(
    installed: ControlPlane, objects: dict[str, Document]
) -> None:
    template = objects["DaemonSet"]["spec"]["template"]
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", **template["metadata"]}, "spec": template["spec"]}

    def admit(namespace: str) -> Document:
        made["metadata"]["namespace"] = namespace
        return installed.admin.create(made, dryRun="All", fieldValidation="Strict")

    assert admit(NAMESPACE)["kind"] == "Pod"
    with installed.admin.namespace() as stricter:
        label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
        installed.admin.patch("Namespace", stricter, label)
        with pytest.raises(Refusal) as refusal:
            admit(stricter)
    assert re.search(r"NET_ADMIN.*host namespaces.*hostPath", str(refusal.value))


def test_the_capabilities_are_two_and_nothing_else_of_root_is_left(pod: Document, container: Document) -> None:
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_BIND_SERVICE"]}
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "privileged" not in context
    assert not pod.keys() & {"hostPID", "hostIPC"}


def test_the_probes_ask_pages_that_there_are_on_the_port_that_is_set(container: Document, config: Config) -> None:
    (port,) = container["ports"]
    assert ("healthz", port["containerPort"]) == (port["name"], host_and_port("", config.healthz_bind_address)[1])
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/healthz", "port": "healthz"},
        "liveness": {"path": "/livez", "port": "healthz"},
        "readiness": {"path": "/healthz", "port": "healthz"},
    }


def test_a_start_may_take_an_hour_before_anybody_restarts_it(container: Document) -> None:
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600


def test_the_pod_has_time_to_drain(pod: Document, config: Config) -> None:
    assert pod["terminationGracePeriodSeconds"] >= config.drain_timeout + 5


def test_the_command_is_one_that_uproxy_has(pod: Document, container: Document) -> None:
    program, *arguments = container["command"]
    assert program in tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert "args" not in container
    help_of_run = subprocess.run([sys.executable, "-m", "uproxy", "run", "--help"], capture_output=True, text=True, check=True, timeout=60)
    flags = [argument for argument in arguments if argument.startswith("-")]
    assert flags == re.findall(r"--config\b", help_of_run.stdout)[:1]
    mount = next(each for each in container["volumeMounts"] if each["name"] == "config")
    volume = next(each for each in pod["volumes"] if each["name"] == "config")
    assert arguments[arguments.index("--config") + 1] == f"{mount['mountPath']}/{volume['configMap']['items'][0]['path']}"


def test_every_environment_variable_is_one_that_is_read(container: Document, objects: dict[str, Document], way: str) -> None:
    names = {each["name"] for each in container["env"]}
    overridden = {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}
    assert names - set(ENVIRONMENT) == (overridden if way == BASE else set())
    keys = {each["valueFrom"]["configMapKeyRef"]["key"] for each in container["env"] if "configMapKeyRef" in each["valueFrom"]}
    assert keys == objects["ConfigMap"]["data"].keys() - {"uproxy.yaml"}


def test_an_address_that_nobody_has_edited_leads_nowhere(rendered: dict[str, list[Document]]) -> None:
    (config_map,) = (each for each in rendered[BASE] if each["kind"] == "ConfigMap")
    # RFC 6761: a name that no resolver ever knows.
    assert config_map["data"]["apiServerHost"].endswith(".invalid")


def test_the_last_known_state_is_kept_on_the_node(pod: Document, container: Document, config: Config) -> None:
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == config.state_dir)
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    assert volume["hostPath"] == {"path": Config().state_dir, "type": "DirectoryOrCreate"}
    assert "readOnly" not in mount


def test_the_image_has_this_version(objects: dict[str, Document], container: Document) -> None:
    assert objects["DaemonSet"]["kind"] == "DaemonSet"
    assert container["image"] == f"uproxy:{__version__}"
    assert f"image: uproxy:{__version__}\n" in (FOLDER / "daemonset.yaml").read_text(encoding="utf-8")


def test_in_kube_proxys_place_its_ports_are_used_and_beside_it_others(
    rendered: dict[str, list[Document]], config: Config, way: str
) -> None:
    ports = {host_and_port("", address)[1] for address in (config.healthz_bind_address, config.metrics_bind_address)}
    defaults = {host_and_port("", address)[1] for address in (Config().healthz_bind_address, Config().metrics_bind_address)}
    assert len(ports) == 2
    assert (ports == defaults) if way == BASE else not ports & defaults
    # A listener on such a port of every address would exclude those on service addresses.
    first, last = config.capture.local_ports
    assert not any(first <= port <= last for port in ports)
    assert config.service_proxy_name == ("" if way == BASE else "uproxy")
    assert rendered[way]


def without_settings_of_a_way(document: Document) -> Document:
    """Give an object without what the two ways to install may differ in: API server's address, settings, ports, kube-proxy's rules."""
    rest = copy.deepcopy(document)
    if rest["kind"] == "ConfigMap":
        del rest["data"]
    elif rest["kind"] == "DaemonSet":
        (container,) = rest["spec"]["template"]["spec"]["containers"]
        del container["ports"]
        rest["spec"]["template"]["spec"].pop("initContainers", None)
        container["env"] = [each for each in container["env"] if not each["name"].startswith("KUBERNETES_SERVICE_")]
    return rest


def test_both_ways_differ_in_nothing_but_settings_ports_address_and_what_kube_proxy_needs(rendered: dict[str, list[Document]]) -> None:
    base, beside = ([without_settings_of_a_way(each) for each in rendered[way]] for way in (BASE, BESIDE))
    assert base == beside
    assert rendered[BASE] != rendered[BESIDE]


def test_beside_kube_proxy_its_two_rules_are_loaded_first_from_the_same_image(rendered: dict[str, list[Document]]) -> None:
    base, beside = (each["spec"]["template"]["spec"] for way in (BASE, BESIDE) for each in rendered[way] if each["kind"] == "DaemonSet")
    assert "initContainers" not in base
    (first,), (container,) = beside["initContainers"], beside["containers"]
    program, flag, file = first["command"]
    assert (program, flag, first["image"]) == ("nft", "-f", container["image"])
    assert f"COPY deploy/nftables {Path(file).parent}\n" in (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    assert (PROJECT / "deploy/nftables" / Path(file).name).is_file()
    expected = copy.deepcopy(container["securityContext"])
    expected["capabilities"]["add"] = ["NET_ADMIN"]
    assert first["securityContext"] == expected
