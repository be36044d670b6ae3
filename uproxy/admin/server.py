"""The two HTTP servers: health (/healthz, /livez) and metrics (/metrics, /proxyMode, /configz, /healthz).

Owns addresses, paths and status codes, which are kube-proxy's own. Knows nothing of what makes a proxy healthy
(health.py) and of what is measured (metrics.py). An address that is taken is tried again for ever; the rest of
the process never waits for it. Invariant: each server has a limited number of connections, and a new one always
gets in, so that nobody can keep the kubelet out by holding connections open.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from uproxy.config_rules import host_and_port
from uproxy.core.model import ObjectKey
from uproxy.errors import ListenError
from uproxy.event_recorder import ClusterEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from uproxy.admin.health import Health
    from uproxy.admin.metrics import Metrics
    from uproxy.api_stats import ApiStats
    from uproxy.config import Config
    from uproxy.event_recorder import Reports

MODE: Final = "userspace"
NO_SNIFFING: Final = {"X-Content-Type-Options": "nosniff"}


class Pages(NamedTuple):
    """One server: the setting of its address, the Event that says it cannot listen there, and what it shows."""

    setting: str
    address: str
    failure: str
    routes: Iterable[web.RouteDef]


async def serve_admin(config: Config, health: Iterable[web.RouteDef], metrics: Iterable[web.RouteDef], reports: Reports) -> None:
    """Serve both until cancelled; an empty address switches its server off."""
    servers = (
        Pages("healthzBindAddress", config.healthz_bind_address, "FailedToStartProxierHealthcheck", health),
        Pages("metricsBindAddress", config.metrics_bind_address, "FailedToStartMetricServer", metrics),
    )
    async with asyncio.TaskGroup() as tasks:
        for pages in servers:
            if pages.address:
                tasks.create_task(_serve(pages, config, reports), name=pages.setting)
        await asyncio.Event().wait()


async def _serve(pages: Pages, config: Config, reports: Reports) -> None:
    application = web.Application()
    application.add_routes(pages.routes)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        door = Door(runner.server, config.admin_connections)
        async with await _listen(door, pages, config, reports) as server:
            await server.serve_forever()
    finally:
        await runner.cleanup()


async def _listen(door: Door, pages: Pages, config: Config, reports: Reports) -> asyncio.Server:
    """Listen on the address as soon as it is free; raises ListenError where the operator prefers to end."""
    loop = asyncio.get_running_loop()
    failed = False
    while True:
        try:
            server = await loop.create_server(door.enter, sock=listening_socket(*host_and_port(pages.setting, pages.address)))
        except OSError as error:
            reason = error.strerror or str(error)
            if config.bind_address_hard_fail:
                raise ListenError(f"{pages.setting}: cannot listen on {pages.address}: {reason} (bindAddressHardFail)") from error
            facts = {"subject": pages.setting, "address": pages.address, "reason": reason, "remedy": "it is tried again"}
            reports.log.warning("admin_listen_failed", **facts)
            if not failed:
                note = f"cannot listen on {pages.address} ({pages.setting}): {reason}"
                reports.recorder.record(
                    ClusterEvent("Warning", pages.failure, "StartKubeProxy", "Node", ObjectKey("", config.node_name), note)
                )
            failed = True
            await asyncio.sleep(config.bind_retry)
        else:
            if failed:
                reports.log.info("admin_listening", subject=pages.setting, address=pages.address)
            return server


def listening_socket(host: str, port: int) -> socket.socket:
    """Make a listening socket; [::] takes IPv4 in as well, as in Go. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6())


class Door:
    """Lets connections in; when there are too many, the oldest one has to go. limit: how many may be inside."""

    def __init__(self, server: web.Server | None, limit: int) -> None:
        if server is None:
            raise RuntimeError("a runner has its server once it is set up")
        self._server = server
        self._limit = limit

    def enter(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        inside = self._server.connections
        if len(inside) >= self._limit:
            inside[0].force_close()
        return self._server()


class HealthPages:
    """What load balancers and the kubelet ask, as kube-proxy answers it (pkg/proxy/healthcheck/proxy_health.go)."""

    def __init__(self, health: Health, metrics: Metrics, api: ApiStats) -> None:
        self._health = health
        self._metrics = metrics
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        """Give the paths; the method does not matter, as in kube-proxy."""
        return [web.route("*", "/healthz", self._healthz), web.route("*", "/livez", self._livez)]

    async def _healthz(self, _request: web.Request) -> web.Response:
        """Say whether traffic should come here: not while draining, nor when the node is about to go."""
        healthy = self._health.is_healthy(time.monotonic())
        response = self._answer(healthy=healthy, more={"nodeEligible": self._health.node_is_eligible})
        self._metrics.asked("healthz", response.status)
        return response

    async def _livez(self, _request: web.Request) -> web.Response:
        """Say whether the process does its work: a restart would not make draining any better."""
        response = self._answer(healthy=self._health.is_alive(time.monotonic()), more={})
        self._metrics.asked("livez", response.status)
        return response

    def _answer(self, *, healthy: bool, more: dict[str, object]) -> web.Response:
        now, synced = time.monotonic(), self._health.last_synced
        current = time.time()
        updated = current if healthy else 0.0 if synced is None else current - (now - synced)
        body = {"lastUpdated": go_time(updated), "currentTime": go_time(current), **more}
        if self._api.state_restored_from is not None:
            body["lastKnownStateFrom"] = go_time(self._api.state_restored_from)
        if not healthy and self._health.last_failure:
            body["lastFailure"] = self._health.last_failure
        return web.Response(text=json.dumps(body), status=200 if healthy else 503, content_type="application/json", headers=NO_SNIFFING)


class MetricsPages:
    """What monitoring asks; on the loopback address unless the operator says otherwise, for there is no authentication.

    configz: gives the settings that are in force, by API group, as JSON can say them.
    """

    def __init__(self, metrics: Metrics, configz: Callable[[], Mapping[str, object]] = dict) -> None:
        self._metrics = metrics
        self._configz = configz

    def routes(self) -> list[web.RouteDef]:
        """Give the paths."""
        return [
            web.get("/metrics", self._show),
            web.get("/configz", self._config),
            web.route("*", "/proxyMode", self._mode),
            web.route("*", "/healthz", self._ok),
        ]

    async def _show(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._metrics.exposition(), headers={"Content-Type": self._metrics.content_type})

    async def _config(self, _request: web.Request) -> web.Response:
        return web.json_response(self._configz(), headers=NO_SNIFFING)

    async def _mode(self, _request: web.Request) -> web.Response:
        return web.Response(text=MODE, headers=NO_SNIFFING)

    async def _ok(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok", headers=NO_SNIFFING)


def go_time(unix_seconds: float) -> str:
    """Write a time as Go's time.Time prints itself (without a fraction's last zeros); the zero time for 0."""
    if not unix_seconds:
        return "0001-01-01 00:00:00 +0000 UTC"
    text = datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"{text.rstrip('0').rstrip('.')} +0000 UTC"
