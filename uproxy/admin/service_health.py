"""The servers of healthCheckNodePort: load balancers ask them whether this node has endpoints of one Service.

Owns which ports are open on which addresses, and the answer, which is kube-proxy's own (service_health.go there) but for
one thing: what was asked on a port that closes, or while the process ends, is answered with 503. Knows nothing of
Services but a number. A port that is taken concerns its Service alone and is tried again for ever.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from uproxy.admin.server import NO_SNIFFING, Door, listening_socket
from uproxy.event_recorder import ClusterEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from uproxy.admin.health import Health
    from uproxy.config import Config
    from uproxy.core.model import ObjectKey
    from uproxy.core.policy import HealthCheck
    from uproxy.event_recorder import Reports

WEIGHT: Final = "X-Load-Balancing-Endpoint-Weight"
EVERYWHERE: Final = ("::" if socket.has_dualstack_ipv6() else "0.0.0.0",)  # noqa: S104 - load balancers ask from anywhere
"""Every address of the node."""


class _Open(NamedTuple):
    """A port that is open for a Service: its servers by their addresses, one at the least."""

    port: int
    servers: dict[str, asyncio.Server]


class ServiceHealth:
    """Fed by the reconciler with offer(), at any time; everything else happens in run()'s task.

    All ports share one limit of connections (adminConnections), beyond which the oldest one has to go.
    """

    def __init__(self, config: Config, health: Health, reports: Reports) -> None:
        self._config = config
        self._health = health
        self._reports = reports
        self._checks: dict[ObjectKey, HealthCheck] = {}
        self._addresses: tuple[str, ...] = EVERYWHERE
        self._asked: dict[int, ObjectKey] = {}
        self._open: dict[ObjectKey, _Open] = {}
        self._failed: dict[ObjectKey, str] = {}
        self._news = asyncio.Event()

    def reconfigure(self, config: Config) -> None:
        """Go by other settings from the next offer() on."""
        self._config = config

    def offer(self, checks: Mapping[ObjectKey, HealthCheck], node_port_addresses: tuple[str, ...]) -> None:
        """Take what holds now. The addresses count only where the operator chose some: every one of the node's otherwise."""
        addresses = node_port_addresses if self._config.node_port_addresses else EVERYWHERE
        if checks != self._checks or addresses != self._addresses:
            self._checks, self._addresses = dict(checks), addresses
            self._news.set()

    async def run(self) -> None:
        """Keep the ports open that are wanted, until cancelled."""
        server = web.Server(self._answer, access_log=None)
        door = Door(server, self._config.admin_connections)
        try:
            while True:
                self._news.clear()
                self._close_unwanted()
                await self._open_wanted(door)
                await self._wait()
        finally:
            self._checks.clear()
            self._close_unwanted()
            await server.shutdown(0)

    async def _wait(self) -> None:
        """Wait for something new, or for the time to try a taken port again."""
        try:
            async with asyncio.timeout(self._config.bind_retry if self._failed else None):
                await self._news.wait()
        except TimeoutError:
            pass

    def _close_unwanted(self) -> None:
        """Close first, so that a port that passes from one Service to another is free. What stays is not touched."""
        for key, held in tuple(self._open.items()):
            check = self._checks.get(key)
            staying = self._addresses if check is not None and check.port == held.port else ()
            for address in held.servers.keys() - set(staying):
                held.servers.pop(address).close()
            if not held.servers:
                del self._open[key], self._asked[held.port]
        for key in tuple(self._failed):
            if key not in self._checks:
                del self._failed[key]

    async def _open_wanted(self, door: Door) -> None:
        for key, check in sorted(self._checks.items()):
            held = self._open.get(key)
            missing = [address for address in self._addresses if held is None or address not in held.servers]
            try:
                servers = await self._listen(door, missing, check.port)
            except OSError as error:
                self._give_up(key, check.port, error.strerror or str(error))
                continue
            if servers:
                self._asked[check.port] = key
                self._open.setdefault(key, _Open(check.port, {})).servers.update(servers)
            if self._failed.pop(key, None):
                self._reports.log.info("service_health_listening", subject=f"Service {key}", port=check.port)

    async def _listen(self, door: Door, addresses: Iterable[str], port: int) -> dict[str, asyncio.Server]:
        """Listen on every address, or raise OSError and listen on none."""
        loop = asyncio.get_running_loop()
        opened: dict[str, asyncio.Server] = {}
        try:
            for address in addresses:
                opened[address] = await loop.create_server(door.enter, sock=listening_socket(address, port))
        except BaseException:
            for one in opened.values():
                one.close()
            raise
        return opened

    def _give_up(self, key: ObjectKey, port: int, reason: str) -> None:
        """Say once per reason why a port cannot be had."""
        note = f"healthCheckNodePort {port}: {reason}"
        if self._failed.get(key) != note:
            self._reports.log.warning("service_health_listen_failed", subject=f"Service {key}", port=port, reason=reason)
            event = ClusterEvent("Warning", "FailedToStartServiceHealthcheck", "Listen", "Service", key, note)
            self._reports.recorder.record(event)
        self._failed[key] = note

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        """Answer any path and method: 200 where a connection of the Service's would be served by an endpoint of this node."""
        port = request.transport.get_extra_info("sockname")[1] if request.transport else 0
        key = self._asked.get(port)
        check = self._checks.get(key) if key else None
        is_open = check is not None and check.port == port
        count = check.local_endpoints if check and is_open else 0
        serving = is_open and self._health.is_serving(time.monotonic())
        body = {
            "service": {"namespace": key.namespace if key else "", "name": key.name if key else ""},
            "localEndpoints": count,
            "serviceProxyHealthy": serving,
        }
        response = web.Response(
            text=json.dumps(body, indent="\t"),
            status=200 if count and serving else 503,
            content_type="application/json",
            headers={**NO_SNIFFING, WEIGHT: str(count)},
        )
        if not is_open:
            response.force_close()
        return response
