"""ClusterRole system:node-proxier is enough, and nothing beyond it is ever asked: the API server's audit log tells."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.cluster.certificates import User
from tests.cluster.nodes import FIXED_PORT, NO_KUBECONFIG, PORTS, SECONDS, SERVED
from tests.cluster.service_accounts import NODE_PROXIER_ROLE
from tests.lab import client
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.audit import Request
    from tests.cluster.nodes import Cluster, Tenant

pytestmark = pytest.mark.netns

FORBIDDEN: Final = 403
_PATH: Final = re.compile(r"/(?:api|apis/(?P<group>[^/]+))/v1(?:/namespaces/[^/]+)?/(?P<resource>[a-z]+)(?:/[^/]+)?")
IN_A_POD: Final = (
    'mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && ln -s "$0" /run/secrets/kubernetes.io/serviceaccount && exec "$@"'
)
"""A mount namespace of its own (ip netns exec made it) with a service account's folder, $0, where the kubelet puts it."""


class Right(NamedTuple):
    """To do something with a resource."""

    verb: str
    group: str
    resource: str


def granted(cluster: Cluster) -> set[Right]:
    """Read what the API server's own role allows."""
    rules = cluster.admin.get("ClusterRole", NODE_PROXIER_ROLE)["rules"]
    return {
        Right(verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def used(requests: list[Request]) -> set[Right]:
    """Tell which rights somebody's requests took; a path that is no resource's stands for itself."""
    return {_right_of(request) for request in requests}


def _right_of(request: Request) -> Right:
    found = _PATH.fullmatch(request.path)
    return Right(request.verb, found["group"] or "", found["resource"]) if found else Right(request.verb, "", request.path)


def provoke_everything(cluster: Cluster, tenant: Tenant) -> None:
    """Have uproxy on the second node list, watch, serve and write Events about its Node and about a Service."""
    lab = cluster.lab
    with client.listen(lab.node2, "0.0.0.0", FIXED_PORT):
        made = tenant.deploy("web", lab.pod2, type="NodePort", ports=[{**PORTS[0], "nodePort": FIXED_PORT}])
        client.poll(lab.remote, made.vip, SERVED)
        eventually(lambda: _events_about(cluster, tenant.namespace, "web"), within=SECONDS)
    eventually(lambda: _events_about(cluster, "default", "node2"), within=SECONDS)


def _events_about(cluster: Cluster, namespace: str, name: str) -> bool:
    return any(event["regarding"]["name"] == name for event in cluster.admin.list("Event", namespace)["items"])


def assert_nothing_beyond(cluster: Cluster, requests: list[Request]) -> None:
    assert [request for request in requests if request.code == FORBIDDEN] == []
    assert used(requests) <= granted(cluster)
    assert used(requests) >= {
        *(Right("watch", group, resource) for group, resource in (("", "services"), ("", "nodes"), ("discovery.k8s.io", "endpointslices"))),
        Right("create", "events.k8s.io", "events"),
    }


def test_the_user_of_the_role_and_of_nothing_else_is_never_forbidden_anything(cluster: Cluster, tenant: Tenant) -> None:
    user = User("system:node-proxier:alone")
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": tenant.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NODE_PROXIER_ROLE},
        "subjects": [{"kind": "User", "name": user.name}],
    }
    cluster.admin.apply(binding)
    with cluster.running(host=cluster.lab.node2, kubeconfig=cluster.plane.kubeconfig(user)) as uproxy:
        provoke_everything(cluster, tenant)
        assert_nothing_beyond(cluster, cluster.plane.requests(user.name))
        assert uproxy.metrics(code="403").get("rest_client_requests_total", 0) == 0
        assert "403 Forbidden" not in uproxy.log()
    cluster.admin.delete("ClusterRoleBinding", tenant.namespace)


def test_a_pod_with_the_roles_service_account_needs_no_kubeconfig(cluster: Cluster, tenant: Tenant, tmp_path: Path) -> None:
    account = cluster.plane.service_account(tenant.namespace)
    (tmp_path / "token").write_text(account.token(), encoding="utf-8")
    cluster.plane.authority.write(tmp_path / "ca.crt")
    environment = {"KUBERNETES_SERVICE_HOST": cluster.lab.outside.address(4), "KUBERNETES_SERVICE_PORT": str(cluster.plane.port)}
    prefix = ("sh", "-c", IN_A_POD, str(tmp_path))
    with cluster.running(host=cluster.lab.node2, kubeconfig=NO_KUBECONFIG, environment=environment, prefix=prefix) as uproxy:
        assert "service account" in uproxy.wait_for_log("api_server", cluster.plane.url)
        provoke_everything(cluster, tenant)
        assert_nothing_beyond(cluster, cluster.plane.requests(account.user))


def test_all_that_was_ever_asked_in_these_tests_is_within_the_role(cluster: Cluster) -> None:
    """Whatever befell it, and also where the answer was no: an API server that starts forbids everything for a moment."""
    with cluster.running(host=cluster.lab.node2):
        asked = [request for request in cluster.plane.requests() if request.agent.startswith("uproxy/")]
    assert asked
    assert used(asked) <= granted(cluster)
