"""The HTTP servers over real sockets: paths, codes, bodies, and addresses that are taken for a while."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest
from msgspec.structs import replace

from tests.admin.measured import Carried, measured
from tests.lab.ports import free_port
from uproxy.admin.health import Health
from uproxy.admin.metrics import Metrics
from uproxy.admin.server import HealthPages, MetricsPages, go_time, serve_admin
from uproxy.api_stats import ApiStats
from uproxy.config import Config, MetricsSettings
from uproxy.config_rules import Duration
from uproxy.core.model import Protocol, ServicePortName
from uproxy.dataplane.counters import Traffic
from uproxy.event_recorder import ClusterEvent, EventRecorder, NoRecorder, Reports
from uproxy.log import configure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientSession


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


@asynccontextmanager
async def serving(
    health: Health, healthz: str, metrics: str, *, api: ApiStats | None = None, recorder: EventRecorder | None = None
) -> AsyncIterator[ClientSession]:
    """Run both servers until the block ends; give a client."""
    config = replace(Config(), healthz_bind_address=healthz, metrics_bind_address=metrics, bind_retry=Duration(0.05))
    known = measured()
    shown = Metrics(known)
    reports = Reports(configure(config.logging), recorder or NoRecorder())
    health_pages, metrics_pages = HealthPages(health, shown, api or known.api), MetricsPages(shown)
    task = asyncio.create_task(serve_admin(config, health_pages.routes(), metrics_pages.routes(), reports))
    try:
        async with aiohttp.ClientSession() as client:
            yield client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ask(client: ClientSession, address: str, path: str) -> tuple[int, str, str]:
    """Give status, body and content type; a server that does not listen yet is asked again, ten seconds at most."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with client.get(f"http://{address}{path}") as response:
                    return response.status, await response.text(), response.headers["Content-Type"]
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)


def healthy() -> Health:
    health = Health(60, time.monotonic())
    health.synced(time.monotonic())
    return health


async def test_healthz_tells_when_it_was_updated_and_that_the_node_is_eligible() -> None:
    address = free_address()
    async with serving(healthy(), address, "") as client:
        status, body, kind = await ask(client, address, "/healthz")
        assert (status, kind.split(";")[0]) == (200, "application/json")
        assert set(json.loads(body)) == {"lastUpdated", "currentTime", "nodeEligible"}


async def test_a_node_that_is_about_to_go_is_alive_but_gets_no_new_traffic() -> None:
    health = Health(60, time.monotonic())
    health.synced(time.monotonic())
    health.node_is_eligible = False
    address = free_address()
    async with serving(health, address, "") as client:
        status, body, _ = await ask(client, address, "/healthz")
        assert (status, json.loads(body)["nodeEligible"]) == (503, False)
        assert (await ask(client, address, "/livez"))[0] == 200


async def test_health_says_that_it_serves_the_last_known_state() -> None:
    health, api = Health(60, time.monotonic()), ApiStats()
    health.synced(time.monotonic())
    api.state_restored_from = 1_700_000_000.0
    address = free_address()
    async with serving(health, address, "", api=api) as client:
        assert json.loads((await ask(client, address, "/healthz"))[1])["lastKnownStateFrom"] == "2023-11-14 22:13:20 +0000 UTC"
        api.state_restored_from = None
        assert "lastKnownStateFrom" not in json.loads((await ask(client, address, "/healthz"))[1])


async def test_the_cluster_is_told_once_about_an_address_that_cannot_be_had() -> None:
    events: list[ClusterEvent] = []

    class Kept:
        def record(self, event: ClusterEvent) -> None:
            events.append(event)

    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        async with serving(Health(60, 0), taken, taken, recorder=Kept()):
            await asyncio.sleep(0.2)
    assert sorted(event.reason for event in events) == ["FailedToStartMetricServer", "FailedToStartProxierHealthcheck"]
    assert all(taken in event.note and event.kind == "Node" for event in events)


async def test_a_proxy_that_never_synced_is_not_healthy_but_alive() -> None:
    address = free_address()
    async with serving(Health(60, time.monotonic()), address, "") as client:
        assert (await ask(client, address, "/healthz"))[0] == 503
        assert (await ask(client, address, "/livez"))[0] == 200


async def test_a_draining_proxy_sends_load_balancers_elsewhere_and_needs_no_restart() -> None:
    address, health = free_address(), healthy()
    health.draining()
    async with serving(health, address, "") as client:
        assert (await ask(client, address, "/healthz"))[0] == 503
        assert (await ask(client, address, "/livez"))[0] == 200


async def test_a_failure_is_told_once_it_has_lasted_too_long() -> None:
    address, health = free_address(), Health(60, time.monotonic() - 100)
    health.failed(time.monotonic(), "nft is missing")
    async with serving(health, address, "") as client:
        status, body, _ = await ask(client, address, "/livez")
        assert (status, json.loads(body)["lastFailure"]) == (503, "nft is missing")


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz/x"])
async def test_other_paths_of_the_health_server_are_not_found(path: str) -> None:
    address = free_address()
    async with serving(healthy(), address, "") as client:
        assert (await ask(client, address, path))[0] == 404


async def test_the_metrics_server_tells_mode_metrics_and_that_it_runs() -> None:
    address = free_address()
    async with serving(healthy(), "", address) as client:
        assert await ask(client, address, "/proxyMode") == (200, "userspace", "text/plain; charset=utf-8")
        assert (await ask(client, address, "/healthz"))[:2] == (200, "ok")
        status, body, kind = await ask(client, address, "/metrics")
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        assert "kubeproxy_sync_proxy_rules_last_timestamp_seconds" in body


async def test_questions_to_the_health_server_are_counted_by_code() -> None:
    health, metrics = free_address(), free_address()
    async with serving(healthy(), health, metrics) as client:
        await ask(client, health, "/healthz")
        await ask(client, health, "/healthz")
        body = (await ask(client, metrics, "/metrics"))[1]
        assert 'kubeproxy_proxy_healthz_total{code="200"} 2.0' in body


async def test_an_address_that_is_taken_is_tried_until_it_is_free() -> None:
    address = free_address()
    host, port = address.split(":")
    holder = socket.create_server((host, int(port)))
    async with serving(healthy(), address, "") as client:
        await asyncio.sleep(0.1)
        holder.close()
        assert (await ask(client, address, "/healthz"))[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_the_method_of_a_question_does_not_matter(method: str) -> None:
    address = free_address()
    async with serving(healthy(), address, "") as client:
        await ask(client, address, "/healthz")
        async with client.request(method, f"http://{address}/livez") as response:
            assert response.status == 200
            assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="IPv6 is off in this kernel")
async def test_the_unspecified_ipv6_address_takes_ipv4_in_too() -> None:
    # Chosen for every address: connections that ended a moment ago may hold a port that is free on 127.0.0.1.
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
    async with serving(healthy(), f"[::]:{port}", "") as client:
        assert (await ask(client, f"[::1]:{port}", "/livez"))[0] == 200
        assert (await ask(client, f"127.0.0.1:{port}", "/livez"))[0] == 200


async def test_connections_that_ask_nothing_cannot_keep_others_out() -> None:
    address = free_address()
    host, port = address.split(":")
    async with serving(healthy(), address, "") as client:
        await ask(client, address, "/healthz")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(3 * Config().admin_connections)]
        assert (await ask(client, address, "/healthz"))[0] == 200
        reader, _ = idle[0]
        assert await asyncio.wait_for(reader.read(), 10) == b""
        for _, writer in idle:
            writer.close()


async def test_a_large_exposition_does_not_stop_the_loop() -> None:
    carried = Carried()
    for number in range(3_000):
        carried.ports[ServicePortName("default", f"web-{number}", "http", Protocol.TCP)] = Traffic()
    metrics = Metrics(measured(carried, MetricsSettings(per_service=True, per_service_limit=3_000)))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    text = await metrics.exposition()
    counting.cancel()
    assert text.count(b"\n") > 15_000
    assert turns > 10, "the loop went on while the text was written"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0001-01-01 00:00:00 +0000 UTC"),
        (1.5, "1970-01-01 00:00:01.5 +0000 UTC"),
        (10, "1970-01-01 00:00:10 +0000 UTC"),
    ],
)
def test_times_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert go_time(seconds) == text
