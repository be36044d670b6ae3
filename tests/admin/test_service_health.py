"""healthCheckNodePort servers over real sockets: the answer, ports that come and go, ports that are taken."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest
from msgspec.structs import replace

from tests.lab.ports import free_port
from uproxy.admin.health import Health
from uproxy.admin.service_health import WEIGHT, ServiceHealth
from uproxy.config import Config
from uproxy.config_rules import Duration
from uproxy.core.model import ObjectKey
from uproxy.core.policy import HealthCheck
from uproxy.event_recorder import ClusterEvent, Reports
from uproxy.log import configure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WEB, API = ObjectKey("default", "web"), ObjectKey("default", "api")
RETRY = 0.05


class Kept:
    """The Events that were recorded."""

    def __init__(self) -> None:
        self.events: list[ClusterEvent] = []

    def record(self, event: ClusterEvent) -> None:
        self.events.append(event)


class Running(NamedTuple):
    """Running servers, what they are fed with, and a client."""

    servers: ServiceHealth
    health: Health
    events: list[ClusterEvent]
    client: aiohttp.ClientSession

    async def ask(self, port: int, address: str = "127.0.0.1", method: str = "GET", path: str = "/") -> tuple[int, int, bool]:
        """Give status, endpoints here and whether the proxy is healthy; a port that is not open yet is asked again."""
        host = f"[{address}]" if ":" in address else address
        async with asyncio.timeout(10):
            while True:
                try:
                    async with self.client.request(method, f"http://{host}:{port}{path}") as response:
                        body = json.loads(await response.text() or "null")
                        assert response.headers["X-Content-Type-Options"] == "nosniff"
                        assert response.headers["Content-Type"].split(";")[0] == "application/json"
                        assert body["localEndpoints"] == int(response.headers[WEIGHT])
                        return response.status, body["localEndpoints"], body["serviceProxyHealthy"]
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)

    async def ask_until(self, endpoints: int, port: int) -> None:
        """Ask until so many endpoints are told of."""
        async with asyncio.timeout(10):
            while (await self.ask(port))[1] != endpoints:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(*, chosen: bool = False) -> AsyncIterator[Running]:
    """Run the servers of a healthy proxy until the block ends. chosen: the operator said which addresses serve node ports."""
    config = replace(Config(), bind_retry=Duration(RETRY), node_port_addresses=("127.0.0.0/8", "::1/128") if chosen else ())
    health, kept = Health(60, time.monotonic()), Kept()
    health.synced(time.monotonic())
    servers = ServiceHealth(config, health, Reports(configure(config.logging), kept))
    task = asyncio.create_task(servers.run())
    try:
        async with aiohttp.ClientSession() as client:
            yield Running(servers, health, kept.events, client)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def wait_closed(port: int, address: str = "127.0.0.1") -> None:
    """Wait until nobody listens."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(address, port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it waited to be accepted when the port closed
                continue
            writer.close()
            await asyncio.sleep(0.01)


async def test_a_node_with_endpoints_of_the_service_is_told_apart_from_one_without() -> None:
    port = free_port()
    async with running() as found:
        found.servers.offer({WEB: HealthCheck(port, 2)}, ())
        assert await found.ask(port) == (200, 2, True)
        found.servers.offer({WEB: HealthCheck(port, 0)}, ())
        assert await found.ask(port) == (503, 0, True)


async def test_the_answer_is_indented_by_tabs_and_names_the_service() -> None:
    port = free_port()
    async with running() as found:
        found.servers.offer({WEB: HealthCheck(port, 1)}, ())
        await found.ask(port)
        async with found.client.get(f"http://127.0.0.1:{port}/") as response:
            assert (await response.text()).splitlines() == [
                "{",
                '\t"service": {',
                '\t\t"namespace": "default",',
                '\t\t"name": "web"',
                "\t},",
                '\t"localEndpoints": 1,',
                '\t"serviceProxyHealthy": true',
                "}",
            ]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/any/thing?at=all"])
async def test_any_path_and_method_will_do(path: str, method: str) -> None:
    port = free_port()
    async with running() as found:
        found.servers.offer({WEB: HealthCheck(port, 3)}, ())
        assert await found.ask(port, method=method, path=path) == (200, 3, True)


async def test_a_proxy_that_drains_or_is_stuck_sends_load_balancers_elsewhere() -> None:
    port = free_port()
    async with running() as found:
        found.servers.offer({WEB: HealthCheck(port, 2)}, ())
        assert await found.ask(port) == (200, 2, True)
        found.health.queued(time.monotonic() - 100)
        assert await found.ask(port) == (503, 2, False)
        found.health.synced(time.monotonic())
        found.health.draining()
        assert await found.ask(port) == (503, 2, False)


async def test_a_node_that_is_about_to_go_still_answers_for_its_endpoints() -> None:
    port = free_port()
    async with running() as found:
        found.health.node_is_eligible = False
        found.servers.offer({WEB: HealthCheck(port, 1)}, ())
        assert await found.ask(port) == (200, 1, True)


async def test_a_connection_that_is_open_when_the_port_closes_hears_that_there_is_nothing_here_any_more() -> None:
    port = free_port()
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with running() as found:
        found.servers.offer({WEB: HealthCheck(port, 1)}, ())
        await found.ask(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        assert (await asyncio.wait_for(reader.readuntil(b"true\n}"), 10)).startswith(b"HTTP/1.1 200 ")
        found.servers.offer({}, ())
        writer.write(request)
        assert b"HTTP/1.1 503 " in await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await wait_closed(port)


async def test_ports_open_close_and_pass_from_one_service_to_another() -> None:
    first, second = free_port(), free_port()
    async with running() as found:
        found.servers.offer({WEB: HealthCheck(first, 1), API: HealthCheck(second, 2)}, ())
        assert [(await found.ask(port))[1] for port in (first, second)] == [1, 2]
        found.servers.offer({WEB: HealthCheck(second, 1), API: HealthCheck(first, 2)}, ())
        await found.ask_until(2, first)
        await found.ask_until(1, second)
        found.servers.offer({API: HealthCheck(first, 2)}, ())
        await wait_closed(second)
        found.servers.offer({WEB: HealthCheck(second, 5), API: HealthCheck(first, 2)}, ())
        assert await found.ask(second) == (200, 5, True)
        assert found.events == []


async def test_a_port_that_is_taken_is_told_once_to_the_cluster_and_had_once_it_is_free() -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        async with running() as found:
            found.servers.offer({WEB: HealthCheck(taken, 1), API: HealthCheck(free, 1)}, ())
            assert await found.ask(free) == (200, 1, True)
            await asyncio.sleep(3 * RETRY)
            holder.close()
            assert await found.ask(taken) == (200, 1, True)
    (event,) = found.events
    assert (event.type, event.reason, event.action) == ("Warning", "FailedToStartServiceHealthcheck", "Listen")
    assert (event.kind, event.key) == ("Service", WEB)
    assert str(taken) in event.note


async def test_of_two_services_with_one_port_the_second_gets_it_when_the_first_leaves() -> None:
    port = free_port()
    async with running() as found:
        found.servers.offer({API: HealthCheck(port, 7), WEB: HealthCheck(port, 1)}, ())
        assert (await found.ask(port))[1] == 7
        found.servers.offer({WEB: HealthCheck(port, 1)}, ())
        await found.ask_until(1, port)


async def test_addresses_count_only_where_the_operator_chose_some() -> None:
    port = free_port()
    async with running() as found:
        found.servers.offer({WEB: HealthCheck(port, 1)}, ("127.0.0.7",))
        for address in ("127.0.0.1", "127.0.0.8", "::1"):
            assert await found.ask(port, address) == (200, 1, True)


async def test_the_ports_are_open_on_each_chosen_address_and_follow_when_they_change() -> None:
    port = free_port()
    async with running(chosen=True) as found:
        found.servers.offer({WEB: HealthCheck(port, 1)}, ("127.0.0.7", "::1"))
        for address in ("127.0.0.7", "::1"):
            assert await found.ask(port, address) == (200, 1, True)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        found.servers.offer({WEB: HealthCheck(port, 1)}, ("127.0.0.8",))
        assert await found.ask(port, "127.0.0.8") == (200, 1, True)
        await wait_closed(port, "127.0.0.7")
        await wait_closed(port, "::1")


async def test_a_port_that_one_of_the_addresses_lacks_is_open_on_none() -> None:
    with socket.create_server(("127.0.0.8", 0)) as holder:
        port = holder.getsockname()[1]
        async with running(chosen=True) as found:
            found.servers.offer({WEB: HealthCheck(port, 1)}, ("127.0.0.7", "127.0.0.8"))
            async with asyncio.timeout(10):
                while not found.events:  # noqa: ASYNC110 - events are a list, as a cluster keeps them
                    await asyncio.sleep(0.01)
            await wait_closed(port, "127.0.0.7")


async def test_connections_that_ask_nothing_cannot_keep_load_balancers_out() -> None:
    port = free_port()
    async with running() as found:
        found.servers.offer({WEB: HealthCheck(port, 1)}, ())
        await found.ask(port)
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * Config().admin_connections)]
        assert await found.ask(port) == (200, 1, True)
        assert await asyncio.wait_for(idle[0][0].read(), 10) == b""
        for _, writer in idle:
            writer.close()
