"""Events over a real API server, as somebody bound to exactly system:node-proxier; and what happens when it is away."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest
from msgspec.structs import replace

from tests.cluster import kubeconfigs
from tests.cluster.certificates import ADMIN, User
from tests.cluster.fixtures import require_binaries
from tests.cluster.objects import service
from tests.cluster.relay import HEALTHY, STALLED, Fault
from tests.dataplane.running import RecordingLog
from tests.deploy.kubectl import Kubectl
from tests.lab.waiting import eventually
from uproxy.api_stats import ApiStats
from uproxy.config import Config, KubernetesSettings
from uproxy.config_rules import Duration
from uproxy.core.model import ObjectKey
from uproxy.event_recorder import ClusterEvent
from uproxy.sources.kubernetes.access import find
from uproxy.sources.kubernetes.client import ApiServer
from uproxy.sources.kubernetes.event_series import COMBINED
from uproxy.sources.kubernetes.events import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.cluster.api_client import ApiClient, Document
    from tests.cluster.control_plane import ControlPlane
    from tests.cluster.relay import Relay

NODE: Final = "node-a"
PATIENCE: Final = 20.0
"""Seconds that a test waits for what must come."""
QUICK: Final = KubernetesSettings(
    retry_base=Duration(0.01),
    retry_limit=Duration(0.1),
    event_burst=1000,
    event_repeat=Duration(0.05),
)
"""Pauses so short that a test sees what comes after them."""


class Recording:
    """A Recorder that runs, with what it counts and logs."""

    def __init__(self, kubeconfig: Path, settings: KubernetesSettings, node: str) -> None:
        config = Config(kubeconfig=str(kubeconfig), node_name=node, kubernetes=settings)
        self.log = RecordingLog()
        self.stats = ApiStats()
        self.api_server = ApiServer(find(config, {}), config, self.log, self.stats)
        self.recorder = Recorder(self.api_server, config, self.log, self.stats)
        self.task = asyncio.create_task(self.recorder.run())

    def record(self, *events: ClusterEvent) -> None:
        """Hand over Events, as the rest of the process does."""
        for event in events:
            self.recorder.record(event)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what is counted is as a test wants it."""
        await asyncio.to_thread(eventually, condition, within=PATIENCE)

    @property
    def dropped(self) -> int:
        """How many came to nothing."""
        return sum(self.stats.events_dropped.values())

    async def close(self) -> None:
        """End it; it must not have ended by itself."""
        assert not self.task.done(), self.task
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        await self.api_server.aclose()


@asynccontextmanager
async def recording(kubeconfig: Path, settings: KubernetesSettings = QUICK, node: str = NODE) -> AsyncIterator[Recording]:
    """Run a Recorder for a while."""
    running = Recording(kubeconfig, settings, node)
    try:
        yield running
    finally:
        await running.close()


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, namespace: str) -> Path:
    """Give a kubeconfig of somebody bound to exactly system:node-proxier."""
    token = control_plane.service_account(namespace).token()
    return control_plane.kubeconfig(kubeconfigs.with_token(token))


@pytest.fixture
def relay(control_plane: ControlPlane) -> Iterator[Relay]:
    """Give a relay before the API server."""
    with control_plane.relay() as running:
        yield running


@pytest.fixture
def by_relay(control_plane: ControlPlane, namespace: str, relay: Relay) -> Path:
    """Give the same kubeconfig by way of the relay."""
    token = control_plane.service_account(namespace, "by-relay").token()
    return control_plane.kubeconfig(kubeconfigs.with_token(token), server=relay.url)


def conflict(namespace: str, name: str = "web", note: str = "port 80 of 10.96.0.1 is taken") -> ClusterEvent:
    return ClusterEvent("Warning", "PortConflict", "Listen", "Service", ObjectKey(namespace, name), note)


def about_node(name: str, note: str = "uproxy 0.1.0") -> ClusterEvent:
    return ClusterEvent("Normal", "Starting", "StartKubeProxy", "Node", ObjectKey("", name), note)


async def told(admin: ApiClient, namespace: str, number: int = 1) -> list[Document]:
    """Wait for this number of Events in a namespace; give them in the order of their notes."""

    def found() -> list[Document]:
        events = admin.list("Event", namespace)["items"]
        assert len(events) == number, events
        return sorted(events, key=lambda event: str(event["note"]))

    return await asyncio.to_thread(eventually, found, within=PATIENCE)


async def counted(admin: ApiClient, namespace: str, count: int) -> Document:
    """Wait until the namespace's only Event says that it happened so often."""

    def found() -> Document:
        events = admin.list("Event", namespace)["items"]
        assert [event.get("series", {}).get("count", 1) for event in events] == [count], events
        return dict(events[0])

    return await asyncio.to_thread(eventually, found, within=PATIENCE)


async def test_an_event_about_a_service_says_who_reports_what_about_which_object(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    made = control_plane.admin.create(service(namespace, "web", {"http": 80}))
    before = time.time()
    async with recording(kubeconfig) as running:
        running.record(conflict(namespace))
        (event,) = await told(control_plane.admin, namespace)
        await running.until(lambda: running.stats.events_sent == 1)
    assert event["regarding"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "name": "web",
        "namespace": namespace,
        "uid": made["metadata"]["uid"],
    }
    shown = {name: event[name] for name in ("type", "reason", "action", "note", "reportingController", "reportingInstance")}
    assert shown == {
        "type": "Warning",
        "reason": "PortConflict",
        "action": "Listen",
        "note": "port 80 of 10.96.0.1 is taken",
        "reportingController": "uproxy",
        "reportingInstance": NODE,
    }
    assert event["metadata"]["name"].startswith("web.")
    assert event["eventTime"] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    assert "series" not in event
    assert (running.dropped, running.log.named("event_refused")) == (0, [])


async def test_an_event_about_a_node_goes_to_namespace_default_with_the_nodes_name_for_its_uid(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    node = f"node-of-{namespace}"
    async with recording(kubeconfig, node=node) as running:
        running.record(about_node(node))
        await running.until(lambda: running.stats.events_sent == 1)
    (event,) = (each for each in control_plane.admin.list("Event", "default")["items"] if each["regarding"]["name"] == node)
    assert event["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node}
    assert (event["type"], event["reason"], event["reportingInstance"]) == ("Normal", "Starting", node)


async def test_kubectl_describe_shows_the_events_of_a_service_and_of_a_node(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    require_binaries("kubectl")
    kubectl = Kubectl(tmp_path, control_plane.kubeconfig(ADMIN))
    node = f"node-of-{namespace}"
    control_plane.admin.create(service(namespace, "web", {"http": 80}))
    control_plane.admin.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    async with recording(kubeconfig, node=node) as running:
        running.record(conflict(namespace), about_node(node))
        await running.until(lambda: running.stats.events_sent == 2)
    described = [
        await asyncio.to_thread(kubectl.run, "describe", "service", "web", "--namespace", namespace),
        await asyncio.to_thread(kubectl.run, "describe", "node", node),
    ]
    control_plane.admin.delete("Node", node)
    assert "port 80 of 10.96.0.1 is taken" in described[0]
    assert "StartKubeProxy" not in described[0]
    assert "uproxy 0.1.0" in described[1]


async def test_an_event_about_a_service_that_is_gone_is_told_without_uid(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    async with recording(kubeconfig) as running:
        running.record(conflict(namespace))
        (event,) = await told(control_plane.admin, namespace)
    assert "uid" not in event["regarding"]


async def test_an_event_that_occurs_again_and_again_is_one_object_whose_count_rises(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    async with recording(kubeconfig) as running:
        running.record(*[conflict(namespace)] * 3)
        first = await counted(control_plane.admin, namespace, 3)
        running.record(*[conflict(namespace)] * 4)
        second = await counted(control_plane.admin, namespace, 7)
        running.record(conflict(namespace))
        third = await counted(control_plane.admin, namespace, 8)
        await running.until(lambda: running.stats.events_sent == 3)
    assert first["metadata"]["uid"] == second["metadata"]["uid"] == third["metadata"]["uid"]
    assert first["eventTime"] == third["eventTime"]
    observed = [each["series"]["lastObservedTime"] for each in (first, second, third)]
    assert observed == sorted(set(observed))
    assert running.dropped == 0


async def test_an_event_that_the_api_server_has_forgotten_is_told_anew_with_its_count(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    async with recording(kubeconfig) as running:
        running.record(conflict(namespace))
        (event,) = await told(control_plane.admin, namespace)
        await running.until(lambda: running.stats.events_sent == 1)
        control_plane.admin.delete("Event", event["metadata"]["name"], namespace)
        running.record(conflict(namespace))
        again = await counted(control_plane.admin, namespace, 2)
    assert again["eventTime"] == event["eventTime"]
    assert again["metadata"]["name"] != event["metadata"]["name"]


async def test_many_similar_events_are_told_as_a_few_and_one_that_stands_for_the_others(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    async with recording(kubeconfig, replace(QUICK, event_similar=2)) as running:
        running.record(*(conflict(namespace, note=f"port {port} is taken") for port in range(100, 200)))
        combined, *single = await told(control_plane.admin, namespace, 3)
    assert [event["note"] for event in single] == ["port 100 is taken", "port 101 is taken"]
    assert combined["note"] == f"{COMBINED}port 102 is taken"
    assert combined["series"]["count"] == 98


async def test_the_longest_names_and_notes_are_cut_to_what_the_api_server_takes(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    node = ".".join([namespace, *["n" * 60] * 3])
    async with recording(kubeconfig, node=node) as running:
        running.record(about_node(node, "\N{SNOWMAN}" * 1000), conflict(namespace, note="x" * 100_000))
        (event,) = await told(control_plane.admin, namespace)
        await running.until(lambda: running.stats.events_sent == 2)
    (at_node,) = (each for each in control_plane.admin.list("Event", "default")["items"] if each["regarding"]["name"] == node)
    assert event["note"] == "x" * 1024
    assert at_node["note"] == "\N{SNOWMAN}" * 341
    assert at_node["reportingInstance"] == node[:128]


async def test_a_burst_is_written_at_once_and_the_rest_at_the_rate_that_is_set(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    interval = 0.3
    settings = replace(QUICK, event_burst=3, event_interval=Duration(interval))
    async with recording(kubeconfig, settings) as running:
        started = time.monotonic()
        running.record(*(conflict(namespace, f"web-{number}") for number in range(6)))
        await running.until(lambda: running.stats.events_sent == 3)
        burst = time.monotonic() - started
        await running.until(lambda: running.stats.events_sent == 6)
        whole = time.monotonic() - started
    assert whole >= 3 * interval
    assert whole - burst > interval
    assert len(control_plane.admin.list("Event", namespace)["items"]) == 6


async def test_an_answer_that_is_lost_on_its_way_makes_no_second_event(
    control_plane: ControlPlane, namespace: str, relay: Relay, by_relay: Path
) -> None:
    node = f"node-of-{namespace}"
    relay.fault = Fault(then="reset", times=1)
    async with recording(by_relay, node=node) as running:
        running.record(about_node(node))
        await running.until(lambda: running.stats.events_sent == 1)
    assert relay.fault == HEALTHY
    codes = [
        request.code
        for request in control_plane.requests()
        if request.verb == "create" and request.user.startswith(f"system:serviceaccount:{namespace}:")
    ]
    assert codes == [201, 409]
    assert running.dropped == 0


async def test_who_may_not_write_events_is_told_once_and_they_are_dropped_and_counted(control_plane: ControlPlane, namespace: str) -> None:
    nobody = control_plane.kubeconfig(User("nobody"))
    async with recording(nobody, replace(QUICK, event_patience=Duration(0.2))) as running:
        running.record(*(about_node(f"node-{number}") for number in range(3)), conflict(namespace))
        await running.until(lambda: running.dropped == 4)
        assert running.stats.events_dropped == {"forbidden": 4}
        assert running.stats.events_sent == 0
        (told_once,) = running.log.named("event_refused")
    assert "system:node-proxier" in str(told_once["reason"])


async def test_what_is_forbidden_for_a_while_is_written_later(control_plane: ControlPlane, namespace: str) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"later-{namespace}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": namespace}],
    }
    async with recording(control_plane.kubeconfig(User(namespace))) as running:
        running.record(conflict(namespace))
        await running.until(lambda: any(code == "403" for _, _, code in running.stats.requests))
        control_plane.admin.create(binding)
        await running.until(lambda: running.stats.events_sent == 1)
    control_plane.admin.delete("ClusterRoleBinding", f"later-{namespace}")
    assert (running.dropped, running.log.named("event_refused")) == (0, [])


async def test_a_namespace_that_is_about_to_go_takes_no_events_and_nobody_is_troubled(
    control_plane: ControlPlane, kubeconfig: Path
) -> None:
    admin = control_plane.admin
    name = admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "ending-"}})["metadata"]["name"]
    going = admin.delete("Namespace", name)
    async with recording(kubeconfig) as running:
        running.record(conflict(name))
        await running.until(lambda: running.dropped == 1)
    going["spec"]["finalizers"] = []
    admin.request("PUT", f"{admin.path('Namespace')}/{name}/finalize", going)
    assert running.stats.events_dropped == {"forbidden": 1}
    assert running.log.named("event_refused") == []


@pytest.mark.parametrize("away", ["refused", "stalled"])
async def test_an_event_waits_for_an_api_server_that_is_away(
    control_plane: ControlPlane, namespace: str, relay: Relay, by_relay: Path, away: str
) -> None:
    async with recording(by_relay, replace(QUICK, request_timeout=Duration(0.5))) as running:
        if away == "refused":
            relay.refuse()
        else:
            relay.fault = STALLED
        running.record(conflict(namespace))
        await running.until(lambda: any(code == "<error>" for _, _, code in running.stats.requests))
        assert (running.stats.events_sent, running.dropped) == (0, 0)
        if away == "refused":
            relay.accept()
        else:
            relay.fault = HEALTHY
        await told(control_plane.admin, namespace)
        await running.until(lambda: running.stats.events_sent == 1)
    assert running.dropped == 0


async def test_an_event_that_has_waited_for_too_long_is_dropped_without_a_word(
    control_plane: ControlPlane, namespace: str, relay: Relay, by_relay: Path
) -> None:
    async with recording(by_relay, replace(QUICK, event_patience=Duration(0.2))) as running:
        relay.refuse()
        running.record(conflict(namespace, note="too early"))
        await running.until(lambda: running.stats.events_dropped == {"refused": 1})
        relay.accept()
        running.record(conflict(namespace, note="later"))
        (event,) = await told(control_plane.admin, namespace)
    assert event["note"] == "later"
    assert running.log.named("event_refused") == []


async def test_while_the_api_server_is_away_no_flood_of_events_takes_time_or_memory(relay: Relay, by_relay: Path) -> None:
    relay.refuse()
    flood = 5000
    async with recording(by_relay) as running:
        running.record(*(conflict("shop", f"first-{number}") for number in range(flood)))
        await running.until(lambda: running.stats.requests != {})
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(flood):
                running.recorder.record(conflict("shop", f"then-{number}", "x" * 5000))
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < 100_000
        started = time.thread_time()
        for number in range(flood):
            running.recorder.record(conflict("shop", f"later-{number}"))
        # 10 us each; a second says that nothing waits or searches.
        assert time.thread_time() - started < 1
        assert running.stats.events_dropped == {"queue_full": 3 * flood - QUICK.event_queue}
