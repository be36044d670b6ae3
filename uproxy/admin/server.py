"""The two HTTP servers: health (/healthz, /livez) and metrics (/metrics, /proxyMode, /healthz).

Owns addresses, paths and status codes, which are kube-proxy's own. Knows nothing of what makes a proxy healthy
(health.py) and of what is measured (metrics.py). An address that is taken is tried again for ever; the rest of
the process never waits for it.
"""

from __future__ import annotations

import asyncio
import json
import math
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
    async with asyncio.TaskGroup() as tasks:
        if config.healthz_bind_address:
            routes = HealthPages(health, metrics).routes()
            tasks.create_task(_serve("healthzBindAddress", config.healthz_bind_address, routes, config.bind_retry, log))
        if config.metrics_bind_address:
            routes = MetricsPages(metrics).routes()
            tasks.create_task(_serve("metricsBindAddress", config.metrics_bind_address, routes, config.bind_retry, log))
        await asyncio.Event().wait()


async def _serve(setting: str, address: str, routes: Iterable[web.RouteDef], retry_seconds: float, log: Log) -> None:
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    host, port = host_and_port(setting, address)
    try:
        while True:
            listening = await _listen(runner, setting, host, port, log)
            await asyncio.sleep(math.inf if listening else retry_seconds)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, setting: str, host: str, port: int, log: Log) -> bool:
    try:
        await web.TCPSite(runner, host, port, reuse_address=True).start()
    except OSError as error:
        reason = error.strerror or str(error)
        log.warning("admin_listen_failed", subject=setting, address=f"{host}:{port}", reason=reason, remedy="it is tried again")
        return False
    return True


class HealthPages:
    """What load balancers and the kubelet ask, as kube-proxy answers it (pkg/proxy/healthcheck/proxy_health.go)."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        """Give the paths."""
        return [web.get("/healthz", self._healthz), web.get("/livez", self._livez)]

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
        return [web.get("/metrics", self._show), web.get("/proxyMode", self._mode), web.get("/healthz", self._ok)]

    async def _show(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": self._metrics.content_type})

    async def _mode(self, _request: web.Request) -> web.Response:
        return web.Response(text=MODE, headers=NO_SNIFFING)

    async def _ok(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok", headers=NO_SNIFFING)


def go_time(unix_seconds: float) -> str:
    """Write a time as Go's time.Time prints itself; the zero time for 0."""
    if not unix_seconds:
        return "0001-01-01 00:00:00 +0000 UTC"
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")
