"""The two HTTP servers: health (/healthz, /livez) and metrics (/metrics, /proxyMode, /healthz).

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
from typing import TYPE_CHECKING, Final

from aiohttp import web

from uproxy.config_rules import host_and_port

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uproxy.admin.health import Health
    from uproxy.admin.metrics import Metrics
    from uproxy.config import Config
    from uproxy.log import Log

MODE: Final = "userspace"
NO_SNIFFING: Final = {"X-Content-Type-Options": "nosniff"}


async def serve_admin(config: Config, health: Health, metrics: Metrics, log: Log) -> None:
    """Serve both until cancelled; an empty address switches its server off."""
    servers = (
        ("healthzBindAddress", config.healthz_bind_address, HealthPages(health, metrics).routes()),
        ("metricsBindAddress", config.metrics_bind_address, MetricsPages(metrics).routes()),
    )
    async with asyncio.TaskGroup() as tasks:
        for setting, address, routes in servers:
            if address:
                tasks.create_task(_serve(setting, address, routes, config, log), name=setting)
        await asyncio.Event().wait()


async def _serve(setting: str, address: str, routes: Iterable[web.RouteDef], config: Config, log: Log) -> None:
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        door = _Door(runner.server, config.admin_connections)
        async with await _listen(door, setting, address, config.bind_retry, log) as server:
            await server.serve_forever()
    finally:
        await runner.cleanup()


async def _listen(door: _Door, setting: str, address: str, retry_seconds: float, log: Log) -> asyncio.Server:
    """Listen on the address as soon as it is free."""
    loop = asyncio.get_running_loop()
    failed = False
    while True:
        try:
            server = await loop.create_server(door.enter, sock=_socket(*host_and_port(setting, address)))
        except OSError as error:
            failed = True
            reason = error.strerror or str(error)
            log.warning("admin_listen_failed", subject=setting, address=address, reason=reason, remedy="it is tried again")
            await asyncio.sleep(retry_seconds)
        else:
            if failed:
                log.info("admin_listening", subject=setting, address=address)
            return server


def _socket(host: str, port: int) -> socket.socket:
    """Make a listening socket; [::] takes IPv4 in as well, as in Go. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6())


class _Door:
    """Lets connections in; when there are too many, the oldest one has to go."""

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

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        """Give the paths; the method does not matter, as in kube-proxy."""
        return [web.route("*", "/healthz", self._healthz), web.route("*", "/livez", self._livez)]

    async def _healthz(self, _request: web.Request) -> web.Response:
        """Say whether traffic should come here: not while draining."""
        healthy = self._health.is_healthy(time.monotonic())
        response = self._answer(healthy=healthy, more={"nodeEligible": True})
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
        if not healthy and self._health.last_failure:
            body["lastFailure"] = self._health.last_failure
        return web.Response(text=json.dumps(body), status=200 if healthy else 503, content_type="application/json", headers=NO_SNIFFING)


class MetricsPages:
    """What monitoring asks; on the loopback address unless the operator says otherwise, for there is no authentication."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        """Give the paths."""
        return [web.get("/metrics", self._show), web.route("*", "/proxyMode", self._mode), web.route("*", "/healthz", self._ok)]

    async def _show(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._metrics.exposition(), headers={"Content-Type": self._metrics.content_type})

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
