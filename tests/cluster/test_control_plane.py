"""The control plane does what it is asked to: users and their rights, addresses, endpoints, and what befalls it."""

from __future__ import annotations

import ssl
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster import kubeconfigs, objects
from tests.cluster.api_client import Refusal
from tests.cluster.certificates import NODE_PROXIER, Authority, User
from tests.cluster.control_plane import SERVICE_RANGES, STATIC_TOKENS, ControlPlane
from tests.cluster.fixtures import require_binaries
from tests.cluster.overload import overloaded
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.api_client import ApiClient, Document

PORTS: Final = {"http": 80}
TIMEOUT: Final = 0.5


def who_am_i(client: ApiClient) -> str:
    """Ask the API server for the name of the user that it takes a client for."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}
    name: str = client.create(review)["status"]["userInfo"]["username"]
    return name


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give a control plane that the tests of this module break and mend."""
    require_binaries()
    with ControlPlane(tmp_path_factory.mktemp("broken")) as broken:
        yield broken


def test_a_service_of_two_families_gets_an_address_of_each_range(control_plane: ControlPlane, namespace: str) -> None:
    made = control_plane.admin.create(objects.service(namespace, "web", PORTS, ipFamilyPolicy="RequireDualStack"))
    four, six = made["spec"]["clusterIPs"]
    assert four.startswith(SERVICE_RANGES[0].partition("0.0/")[0])
    assert six.startswith(SERVICE_RANGES[1].partition("/")[0])


def test_the_proxier_may_read_what_it_serves_and_write_events_alone(control_plane: ControlPlane, namespace: str) -> None:
    proxier = control_plane.client(NODE_PROXIER)
    for kind in ("Service", "EndpointSlice", "Node"):
        assert proxier.list(kind)["metadata"]["resourceVersion"]
    for refused in ("Pod", "Secret"):
        with pytest.raises(Refusal, match="403 "):
            proxier.list(refused)
    with pytest.raises(Refusal, match="403 "):
        proxier.create(objects.service(namespace, "web", PORTS))


def test_every_way_to_prove_who_one_is_names_its_user(control_plane: ControlPlane, namespace: str) -> None:
    account = control_plane.service_account(namespace)
    assert who_am_i(control_plane.client(User("somebody"))) == "somebody"
    assert who_am_i(control_plane.client(token=STATIC_TOKENS[NODE_PROXIER])) == NODE_PROXIER.name
    assert who_am_i(control_plane.client(token=account.token())) == account.user
    assert who_am_i(control_plane.client(token=account.token_for(60))) == account.user


@pytest.mark.parametrize("wrong", ["over", "revoked", "unknown"])
def test_a_token_that_is_not_good_is_refused(control_plane: ControlPlane, namespace: str, wrong: str) -> None:
    account = control_plane.service_account(namespace)
    tokens = {"over": account.token_for(-1), "revoked": account.token(), "unknown": "nobody-knows-it"}
    renewed = account.revoke()
    with pytest.raises(Refusal, match="401 "):
        control_plane.client(token=tokens[wrong]).list("Service")
    assert control_plane.client(token=renewed.token()).list("Service")["kind"] == "ServiceList"


def test_a_client_certificate_that_has_expired_is_refused(control_plane: ControlPlane) -> None:
    expired = control_plane.authority.client(NODE_PROXIER, expired=True).write(control_plane.folder, "expired")
    client = type(control_plane.admin)(control_plane.url, certificate=expired)
    with pytest.raises(Refusal, match="401 "):
        client.list("Service")
    client.close()


def test_pods_become_endpoints_as_long_as_they_are_ready(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.controllers()
    admin = control_plane.admin
    objects.create_node(admin, "serving", ["10.0.1.1"])
    admin.create(objects.service(namespace, "web", PORTS, ipFamilyPolicy="RequireDualStack"))

    def endpoints() -> list[tuple[str, bool]]:
        slices = admin.list("EndpointSlice", namespace)["items"]
        return sorted((each["addresses"][0], each["conditions"]["ready"]) for one in slices for each in one["endpoints"] or [])

    def wait_for(expected: list[tuple[str, bool]]) -> None:
        eventually(lambda: endpoints() == expected, within=20)

    addresses = ("10.244.1.11", "fd10:244:1::11")
    objects.create_pod(admin, namespace, "web-1", addresses, node="serving", labels={"app": "web"})
    wait_for([(address, True) for address in addresses])
    objects.set_ready(admin, namespace, "web-1", ready=False)
    wait_for([(address, False) for address in addresses])
    admin.delete("Pod", "web-1", namespace, grace_seconds=0)
    wait_for([])
    admin.delete("Node", "serving")


def test_a_node_has_the_addresses_it_was_given(control_plane: ControlPlane) -> None:
    admin = control_plane.admin
    made = objects.create_node(admin, "lab-node", ["10.0.1.1", "fd10:0:1::1"], zone="here", pod_cidrs=["10.244.1.0/24", "fd10:244:1::/64"])
    moved = objects.set_node_addresses(admin, "lab-node", ["10.0.1.7"])
    admin.delete("Node", "lab-node")
    assert [each["address"] for each in made["status"]["addresses"]] == ["10.0.1.1", "fd10:0:1::1"]
    assert made["metadata"]["labels"][objects.ZONE_LABEL] == "here"
    assert [each["address"] for each in moved["status"]["addresses"]] == ["10.0.1.7"]


def test_a_namespace_goes_with_all_that_is_in_it(control_plane: ControlPlane) -> None:
    admin = control_plane.admin
    with admin.namespace() as name:
        admin.create(objects.service(name, "web", PORTS))
        admin.create(objects.endpoint_slice(name, "web-1", "web", ["10.244.1.11"], PORTS))
    eventually(lambda: name not in {each["metadata"]["name"] for each in admin.list("Namespace")["items"]}, within=20)
    assert all(each["metadata"]["namespace"] != name for kind in ("Service", "EndpointSlice") for each in admin.list(kind)["items"])


def test_what_a_user_asked_is_told(control_plane: ControlPlane) -> None:
    user = User("asking")
    with pytest.raises(Refusal):
        control_plane.client(user).list("Pod", limit="5")
    found = [request for request in control_plane.requests(user.name) if request.path == "/api/v1/pods"]
    assert [(request.verb, request.code, request.query) for request in found] == [("list", 403, {"limit": "5"})]


def test_applying_an_object_twice_changes_nothing(control_plane: ControlPlane, namespace: str) -> None:
    document = objects.service(namespace, "web", PORTS)
    first, second = (control_plane.admin.apply(document)["metadata"]["resourceVersion"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_it_comes_back_on_the_same_port_with_the_same_objects(plane: ControlPlane, way: str) -> None:
    with plane.admin.namespace() as name:
        made = plane.admin.create(objects.service(name, "web", PORTS))
        getattr(plane, way)()
        with pytest.raises(OSError, match="refused"):
            plane.admin.list("Service")
        plane.start()
        assert plane.admin.get("Service", "web", name)["metadata"]["uid"] == made["metadata"]["uid"]


def test_a_paused_one_accepts_connections_and_answers_later(plane: ControlPlane) -> None:
    tls = ssl.create_default_context(cadata=plane.authority.pem.decode())
    with plane.paused(), plane.connect(("127.0.0.1", plane.port)) as raw:
        raw.settimeout(TIMEOUT)
        with pytest.raises(TimeoutError):
            tls.wrap_socket(raw, server_hostname="127.0.0.1")
    assert plane.is_ready()


def verify(plane: ControlPlane, authority: Authority) -> None:
    """Connect as a client that trusts one authority."""
    tls = ssl.create_default_context(cadata=authority.pem.decode())
    with plane.connect(("127.0.0.1", plane.port)) as raw:
        tls.wrap_socket(raw, server_hostname="127.0.0.1").close()


def test_its_certificate_is_renewed_without_a_restart(plane: ControlPlane) -> None:
    pid, before = plane.api_server.pid, plane.served_certificate()
    plane.renew_certificate()
    verify(plane, plane.authority)
    assert plane.api_server.pid == pid
    assert plane.served_certificate() != before


def test_its_certificate_can_be_a_wrong_one(plane: ControlPlane) -> None:
    other = Authority()
    plane.renew_certificate(other)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        verify(plane, plane.authority)
    verify(plane, other)
    plane.renew_certificate(expired=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        verify(plane, plane.authority)
    plane.renew_certificate()
    verify(plane, plane.authority)


def expect_gone(code: int, status: Document) -> None:
    assert code == 410
    assert status["reason"] == "Expired"


def test_a_compacted_history_is_gone_for_watches_and_for_pages(plane: ControlPlane) -> None:
    admin = plane.admin
    with admin.namespace() as name:
        for number in range(3):
            admin.create(objects.service(name, f"web-{number}", PORTS))
        page = admin.list("Service", name, limit="1")["metadata"]
        admin.create(objects.service(name, "web-later", PORTS))
        plane.compact()
        (event,) = admin.watch("Service", name, resourceVersion=page["resourceVersion"])
        assert event["type"] == "ERROR"
        expect_gone(event["object"]["code"], event["object"])
        with pytest.raises(Refusal) as refusal:
            admin.list("Service", name, limit="1", **{"continue": page["continue"]})
        expect_gone(refusal.value.code, refusal.value.status)


def test_a_snapshot_takes_objects_and_versions_back(plane: ControlPlane) -> None:
    admin = plane.admin
    with admin.namespace() as name:
        admin.create(objects.service(name, "old", PORTS))
        snapshot = plane.snapshot()
        for number in range(5):
            admin.create(objects.service(name, f"new-{number}", PORTS))
        later = int(admin.list("Service")["metadata"]["resourceVersion"])
        plane.restore(snapshot)
        now = admin.list("Service", name)
        assert [each["metadata"]["name"] for each in now["items"]] == ["old"]
        assert int(now["metadata"]["resourceVersion"]) < later


def test_an_overloaded_one_tells_a_user_to_come_back(plane: ControlPlane) -> None:
    user = plane.client(token=STATIC_TOKENS[NODE_PROXIER])

    def code() -> int:
        return user.exchange("GET", user.path("Service"), None, "application/json")[0]

    with overloaded(plane, NODE_PROXIER.name, ["list"]):
        eventually(lambda: code() == 429, within=20)
        assert plane.admin.list("Service")["items"]
    eventually(lambda: code() == 200, within=20)


def test_a_streaming_list_ends_with_a_mark(plane: ControlPlane) -> None:
    asked = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    with closing(plane.admin.watch("Service", seconds=20, **asked)) as events:
        mark = next(each for each in events if each["type"] == "BOOKMARK")
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_kubeconfigs_name_the_server_its_authority_and_the_user(control_plane: ControlPlane, tmp_path: Path) -> None:
    path = control_plane.kubeconfig(kubeconfigs.with_token_file(tmp_path / "token"), server="https://192.0.2.7:6443")
    text = path.read_text(encoding="utf-8")
    assert '"https://192.0.2.7:6443"' in text
    assert f'"tokenFile": "{tmp_path / "token"}"' in text
    assert path.stat().st_mode & 0o077 == 0
