"""What an operator can get wrong about the API server: one line that says it, and an end or another try as it makes sense."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster import kubeconfigs
from tests.cluster.certificates import Authority, User
from tests.cluster.nodes import SECONDS, SERVED
from tests.cluster.service_accounts import NODE_PROXIER_ROLE
from tests.lab import client
from tests.lab.servers import PROJECT
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.nodes import Cluster, Tenant
    from tests.lab.process import Uproxy

IMPATIENT: Final = {"kubernetes": {"retryBase": "100ms", "retryLimit": "300ms"}}
ATTEMPTS: Final = 12
NOBODY_LISTENS: Final = 1
STRANGER: Final = User("stranger")
GOOD: Final = """\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://192.0.2.1"}}]
contexts: [{name: k, context: {cluster: c}}]
"""

FILES: Final = {
    "bad.yaml": "clusters: [\n",
    "elsewhere.yaml": GOOD + "current-context: elsewhere\n",
    "undecided.yaml": GOOD,
    "good.yaml": GOOD + "current-context: k\n",
}


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run uproxy to its end in a folder with the files above, outside of any cluster."""
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")}
    argv = [sys.executable, "-m", "uproxy", "run", *arguments]
    environ = {**kept, "PYTHONPATH": str(PROJECT), **environment}
    return subprocess.run(argv, capture_output=True, text=True, cwd=folder, env=environ, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ((), {}, ("--kubeconfig", "--manifests", "KUBECONFIG")),
        (("--kubeconfig", "missing.yaml"), {}, ("missing.yaml", "No such file")),
        (("--kubeconfig", "."), {}, ("kubeconfig .", "directory")),
        (("--kubeconfig", "bad.yaml"), {}, ("bad.yaml", "is not YAML")),
        (("--kubeconfig", "elsewhere.yaml"), {}, ("elsewhere.yaml", "context 'elsewhere'")),
        (("--kubeconfig", "undecided.yaml"), {}, ("undecided.yaml", "current-context is not set")),
        (("--kubeconfig", "good.yaml", "--manifests", "."), {}, ("--manifests", "--kubeconfig", "choose one")),
        (("--master", "https://192.0.2.1", "--manifests", "."), {}, ("--manifests", "--master", "choose one")),
        ((), {"KUBECONFIG": "missing.yaml"}, ("KUBECONFIG missing.yaml", "no such file")),
        ((), {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"}, ("service account", "--kubeconfig")),
    ],
)
def test_a_mistake_that_no_waiting_mends_ends_the_process_with_one_line(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], said: tuple[str, ...]
) -> None:
    done = run(tmp_path, *arguments, **environment)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("error: ")
    assert [words for words in said if words not in line] == [], line
    assert done.stdout == ""


def refused(cluster: Cluster) -> Path:
    return cluster.plane.kubeconfig(server=f"https://{cluster.lab.outside.address(4)}:{NOBODY_LISTENS}")


def wrong_authority(cluster: Cluster) -> Path:
    return cluster.plane.kubeconfig(authority=Authority().pem)


def wrong_token(cluster: Cluster) -> Path:
    return cluster.plane.kubeconfig(kubeconfigs.with_token("nobody-knows-it"))


def without_rights(cluster: Cluster) -> Path:
    return cluster.plane.kubeconfig(STRANGER)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("mistake", "said", "lines"),
    [
        (refused, ("connection refused", f":{NOBODY_LISTENS}/", "is the address right?"), 1),
        (wrong_authority, ("certificate is signed by nobody we trust", "certificate-authority"), 1),
        (wrong_token, ("401 Unauthorized", "credentials"), 1),
        (without_rights, ("403 Forbidden", "stranger", NODE_PROXIER_ROLE), 3),
    ],
)
def test_a_mistake_that_somebody_may_mend_is_said_in_a_line_and_tried_again(
    cluster: Cluster, mistake: Callable[[Cluster], Path], said: tuple[str, ...], lines: int
) -> None:
    """What may be asked for differs between the three kinds, so that each that is forbidden has a line of its own."""
    kubeconfig = mistake(cluster)
    with cluster.running(host=cluster.lab.node2, kubeconfig=kubeconfig, settings=IMPATIENT, healthy=False) as uproxy:
        line = uproxy.wait_for_log("api_server_lost", within=SECONDS)
        assert [words for words in (*said, str(kubeconfig)) if words not in line] == [], line
        eventually(lambda: uproxy.metrics()["rest_client_requests_total"] >= ATTEMPTS, within=SECONDS)
        assert uproxy.get("/healthz").status == 503
        assert uproxy.get("/livez").status == 200
        assert sum("api_server_lost" in each for each in uproxy.lines) == lines, uproxy.log()
        assert len(uproxy.lines) <= 2 + lines + 1, "the two of a start, these, and one about Events"
        uproxy.signal(signal.SIGTERM)
        assert uproxy.wait() == 0


def bind_the_role(cluster: Cluster, name: str) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NODE_PROXIER_ROLE},
        "subjects": [{"kind": "User", "name": STRANGER.name}],
    }
    cluster.admin.apply(binding)


def serves(cluster: Cluster, tenant: Tenant, uproxy: Uproxy) -> None:
    uproxy.wait_healthy()
    made = tenant.deploy("web", cluster.lab.pod2)
    assert client.poll(cluster.lab.remote, made.vip, SERVED, within=SECONDS).name == "pod2"
    uproxy.wait_for_log("api_server_back")


@pytest.mark.netns
def test_rights_that_are_granted_later_are_found_without_a_restart(cluster: Cluster, tenant: Tenant) -> None:
    with cluster.running(host=cluster.lab.node2, kubeconfig=without_rights(cluster), settings=IMPATIENT, healthy=False) as uproxy:
        uproxy.wait_for_log("api_server_lost", "403", within=SECONDS)
        bind_the_role(cluster, tenant.namespace)
        serves(cluster, tenant, uproxy)
    cluster.admin.delete("ClusterRoleBinding", tenant.namespace)


@pytest.mark.netns
def test_a_token_that_is_put_right_later_is_found_without_a_restart(cluster: Cluster, tenant: Tenant, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("nobody-knows-it", encoding="utf-8")
    kubeconfig = cluster.plane.kubeconfig(kubeconfigs.with_token_file(token))
    with cluster.running(host=cluster.lab.node2, kubeconfig=kubeconfig, settings=IMPATIENT, healthy=False) as uproxy:
        uproxy.wait_for_log("api_server_lost", "401", within=SECONDS)
        token.write_text(cluster.plane.service_account(tenant.namespace).token(), encoding="utf-8")
        serves(cluster, tenant, uproxy)
