"""The source before a real API server: lists in both forms, what changes, what kube-proxy's selectors leave out."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from tests.cluster.binaries import OLD_ETCD
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fixtures import require_binaries
from tests.cluster.objects import create_node, endpoint_slice, service, set_node_addresses
from tests.core.objects import service as a_service
from tests.sources.kubernetes.live import LIVE, NODE, fresh, live
from tests.sources.kubernetes.reflecting import feeling_pauses
from tests.sources.kubernetes.spoken import ENDPOINT_SLICES, NODES, SERVICES
from uproxy.core.model import Kind, Node, ObjectKey
from uproxy.core.state import Delete, Listed, Put

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uproxy.core.model import KubernetesObject

pytestmark = pytest.mark.slow
CROWD = 1200
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give a control plane whose objects are this module's alone."""
    require_binaries()
    with ControlPlane(tmp_path_factory.mktemp("source")) as made:
        yield made


@pytest.fixture
def space(plane: ControlPlane) -> Iterator[str]:
    """Give a namespace of the test's own."""
    with plane.admin.namespace("space-") as name:
        yield name


@pytest.fixture(scope="module")
def crowd(plane: ControlPlane) -> str:
    """Give a namespace with more Services than fit on two pages."""
    return fill(plane, CROWD)


@pytest.fixture(scope="module")
def pager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, str]]:
    """Give a control plane that streams no lists, and a namespace with more Services than fit on two pages."""
    require_binaries()
    with ControlPlane(tmp_path_factory.mktemp("pager"), flags=["--feature-gates=WatchList=false"]) as made:
        yield made, fill(made, CROWD)


def fill(plane: ControlPlane, number: int) -> str:
    """Make a namespace with so many Services; it ends with its control plane."""
    name: str = plane.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "crowd-"}})["metadata"]["name"]
    for index in range(number):
        plane.admin.create(service(name, f"s{index}", {"http": 80}))
    return name


async def test_a_streamed_list_has_everything_and_becomes_the_watch(plane: ControlPlane, crowd: str) -> None:
    async with live(plane) as found:
        assert len(found.services(crowd)) == CROWD
        assert found.told.objects == fresh(plane)
        plane.admin.create(service(crowd, "late", {"http": 80}))
        await found.until(lambda: "late" in found.services(crowd))
        plane.admin.delete("Service", "late", crowd)
        await found.until(lambda: "late" not in found.services(crowd))
        for path in (SERVICES, ENDPOINT_SLICES, NODES):
            (query,) = found.queries(path)
            assert query.items() >= {"watch": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}.items()


async def assert_pages(plane: ControlPlane, namespace: str, number: int, expected: int) -> None:
    """Follow a control plane that offers no streamed lists: everything comes in so many pages, as one batch."""
    async with live(plane) as found:
        assert len(found.services(namespace)) == number
        assert found.told.objects == fresh(plane)
        listed = [query for query in found.queries(SERVICES) if "limit" in query]
        assert [query["limit"] for query in listed] == ["500"] * expected
        assert ["continue" in query for query in listed] == [False] + [True] * (expected - 1)
        (batch,) = (batch for batch in found.told.batches if Listed(Kind.SERVICE) in batch)
        assert len(batch) == len(found.state.services) + 1
        assert len(found.log.named("listed_in_pages")) == 1
        plane.admin.create(service(namespace, "late", {"http": 80}))
        await found.until(lambda: "late" in found.services(namespace))
        plane.admin.delete("Service", "late", namespace)
        await found.until(lambda: "late" not in found.services(namespace))


async def test_where_streamed_lists_are_switched_off_pages_have_everything_too(pager: tuple[ControlPlane, str]) -> None:
    await assert_pages(*pager, CROWD, expected=3)


async def test_where_an_old_etcd_never_ends_a_streamed_list_pages_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    require_binaries()
    if not os.access(OLD_ETCD, os.X_OK):
        pytest.skip("needs Debian's etcd: scripts/debian-tools.sh")
    with ControlPlane(tmp_path_factory.mktemp("old"), etcd=OLD_ETCD) as plane:
        await assert_pages(plane, fill(plane, 3), 3, expected=1)


async def test_a_long_list_never_holds_the_loop_for_long(plane: ControlPlane, crowd: str) -> None:
    async with feeling_pauses() as pauses, live(plane) as found:
        assert len(found.services(crowd)) == CROWD
    assert max(pauses) < 0.05


async def test_changes_arrive_as_they_are_made(plane: ControlPlane, space: str) -> None:
    admin, key = plane.admin, ObjectKey(space, "web")
    async with live(plane) as found:
        admin.create(service(space, "web", {"http": 80}))
        admin.create(endpoint_slice(space, "web-1", "web", ["10.0.0.1"], {"http": 8080}))
        await found.until(lambda: key in found.state.services and key in found.state.slices)
        admin.patch("Service", "web", {"spec": {"sessionAffinity": "ClientIP"}}, space)
        await found.until(lambda: found.state.services[key].affinity_seconds == 10_800)
        admin.delete("EndpointSlice", "web-1", space)
        await found.until(lambda: key not in found.state.slices)
        admin.delete("Service", "web", space)
        await found.until(lambda: key not in found.state.services)
        assert found.told.objects == fresh(plane)
        assert not found.log.named("watch_restarted")


async def test_a_change_of_nothing_that_matters_is_not_told(plane: ControlPlane, space: str) -> None:
    async with live(plane) as found:
        plane.admin.create(service(space, "web", {"http": 80}))
        await found.until(lambda: "web" in found.services(space))
        before = len(found.told.batches)
        plane.admin.patch("Service", "web", {"metadata": {"labels": {"team": "shop"}}}, space)
        plane.admin.create(service(space, "marker", {"http": 80}))
        await found.until(lambda: "marker" in found.services(space))
        told = [event for batch in found.told.batches[before:] for event in batch]
        assert [event.obj.key.name for event in told if isinstance(event, Put)] == ["marker"]


@pytest.mark.parametrize("label", [PROXY_NAME, HEADLESS])
async def test_a_label_that_excludes_a_live_service_takes_it_out_and_back_in(plane: ControlPlane, space: str, label: str) -> None:
    admin, key = plane.admin, ObjectKey(space, "web")
    async with live(plane) as found:
        admin.create(service(space, "web", {"http": 80}))
        await found.until(lambda: key in found.state.services)
        admin.patch("Service", "web", {"metadata": {"labels": {label: "somebody"}}}, space)
        await found.until(lambda: key not in found.state.services)
        admin.patch("Service", "web", {"metadata": {"labels": {label: None}}}, space)
        await found.until(lambda: key in found.state.services)
        assert found.told.objects == fresh(plane)


async def test_a_service_may_change_between_types_that_are_served_and_types_that_are_not(plane: ControlPlane, space: str) -> None:
    admin, key = plane.admin, ObjectKey(space, "web")
    admin.create(service(space, "web", {"http": 80}, type="ExternalName", externalName="example.invalid"))
    async with live(plane) as found:
        assert key not in found.state.services
        admin.patch("Service", "web", {"spec": {"type": "NodePort", "externalName": None}}, space)
        await found.until(lambda: key in found.state.services and bool(found.state.services[key].ports[0].node_port))
        admin.patch("Service", "web", {"spec": {"type": "ExternalName", "externalName": "example.invalid", "clusterIP": None}}, space)
        await found.until(lambda: key not in found.state.services)


async def test_of_a_proxy_name_the_services_that_carry_it_are_served(plane: ControlPlane, space: str) -> None:
    for name, labels in (("ours", {PROXY_NAME: "uproxy"}), ("theirs", {PROXY_NAME: "cilium"}), ("usual", {})):
        document = service(space, name, {"http": 80})
        document["metadata"]["labels"] = labels
        plane.admin.create(document)
        plane.admin.create(endpoint_slice(space, f"{name}-1", name, ["10.0.0.1"], {"http": 8080}))
    async with live(plane, replace(LIVE, service_proxy_name="uproxy")) as found:
        assert set(found.state.services) == {ObjectKey(space, "ours")}
        assert ObjectKey(space, "ours") in found.state.slices
        plane.admin.patch("Service", "usual", {"metadata": {"labels": {PROXY_NAME: "uproxy"}}}, space)
        await found.until(lambda: set(found.services(space)) == {"ours", "usual"})
        plane.admin.patch("Service", "ours", {"metadata": {"labels": {PROXY_NAME: None}}}, space)
        await found.until(lambda: set(found.services(space)) == {"usual"})


@pytest.fixture
def node(plane: ControlPlane) -> Iterator[str]:
    """Give this node's name, and remove its Node."""
    create_node(plane.admin, NODE, ["192.0.2.7"], zone="z1", pod_cidrs=["10.244.7.0/24"])
    create_node(plane.admin, "another-node", ["192.0.2.8"])
    yield NODE
    for name in (NODE, "another-node"):
        if name in {each["metadata"]["name"] for each in plane.admin.list("Node")["items"]}:
            plane.admin.delete("Node", name)


async def test_the_own_node_alone_is_followed(plane: ControlPlane, node: str) -> None:
    async with live(plane) as found:
        assert dict(found.state.nodes) == {node: Node(NODE, ("192.0.2.7",), ("10.244.7.0/24",), "z1")}
        set_node_addresses(plane.admin, node, ["192.0.2.9", "fd00::9"])
        await found.until(lambda: found.state.nodes[node].addresses == ("192.0.2.9", "fd00::9"))
        taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
        plane.admin.patch("Node", node, {"spec": {"taints": [taint]}})
        await found.until(lambda: not found.state.nodes[node].eligible)
        plane.admin.delete("Node", node)
        await found.until(lambda: not found.state.nodes)
        assert not found.log.named("node_missing")


async def test_a_node_that_appears_after_the_wait_is_taken_then(plane: ControlPlane) -> None:
    async with live(plane) as found:
        assert len(found.log.named("node_missing")) == 1
        create_node(plane.admin, NODE, ["192.0.2.7"])
        try:
            await found.until(lambda: NODE in found.state.nodes)
        finally:
            plane.admin.delete("Node", NODE)


async def test_the_trigger_time_comes_with_changes_and_not_with_lists(plane: ControlPlane, space: str) -> None:
    made = endpoint_slice(space, "web-1", "web", ["10.0.0.1"], {"http": 8080})
    made["metadata"]["annotations"] = {TRIGGER: "2026-01-02T03:04:05.678Z"}
    plane.admin.create(made)
    async with live(plane) as found:
        plane.admin.patch("EndpointSlice", "web-1", {"endpoints": [{"addresses": ["10.0.0.2"]}]}, space)
        puts: list[Put] = []

        def changed() -> bool:
            puts[:] = [event for batch in found.told.batches for event in batch if isinstance(event, Put) and event.obj.key.name == "web-1"]
            return len(puts) > 1

        await found.until(changed)
        assert [put.triggered for put in puts] == [0, pytest.approx(1767323045.678)]


async def test_a_list_tells_what_is_different_from_what_was_restored(plane: ControlPlane, space: str) -> None:
    plane.admin.create(service(space, "web", {"http": 80}))
    known = [obj for (kind, _), obj in fresh(plane).items() if kind is Kind.SERVICE]
    restored: list[KubernetesObject] = [*known, a_service("long-gone")]
    async with live(plane, restored=restored) as found:
        found.stats.state_restored_from = time.time()
        await found.until_logged("listed", 3)
        assert found.stats.state_restored_from is None
        told = [event for batch in found.told.batches[1:] for event in batch if isinstance(event, Delete | Put)]
        assert Delete(Kind.SERVICE, ObjectKey("default", "long-gone")) in told
        assert not any(isinstance(event, Put) and event.obj in known for event in told)
        assert found.told.objects == fresh(plane)
