"""A source before a real API server, and what a list of that server says it should have told."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from tests.cluster.certificates import NODE_PROXIER
from tests.sources.following import PATIENCE, AnnouncingLog
from tests.sources.kubernetes.reflecting import KeptEvents, Told
from uproxy.api_stats import ApiStats
from uproxy.config import Config, KubernetesSettings
from uproxy.config_rules import Duration
from uproxy.core.decode import Skipped, decode_json
from uproxy.core.model import EndpointSlice, Kind, ObjectKey, Refusal, Service
from uproxy.core.state import State, fold
from uproxy.sources.kubernetes.access import find
from uproxy.sources.kubernetes.client import ApiServer
from uproxy.sources.kubernetes.source import KubernetesSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.cluster.control_plane import ControlPlane
    from tests.cluster.kubeconfigs import Credentials
    from uproxy.core.model import KubernetesObject
    from uproxy.core.state import Event

NODE: Final = "live-node"
LIVE: Final = Config(
    node_name=NODE,
    kubernetes=KubernetesSettings(retry_base=Duration(0.05), retry_limit=Duration(0.5), node_wait=Duration(0.1)),
)
"""The product's own settings, but for pauses: a test should not wait for them."""


def settings(**changed: object) -> Config:
    """Give LIVE with other settings of its Kubernetes group."""
    return replace(LIVE, kubernetes=replace(LIVE.kubernetes, **changed))


class Live:
    """A source before a control plane, and what it has told so far."""

    def __init__(self, plane: ControlPlane, config: Config, kubeconfig: Path) -> None:
        self.plane = plane
        self.config = replace(config, kubeconfig=str(kubeconfig))
        self.log = AnnouncingLog()
        self.stats = ApiStats()
        self.told = Told()
        self.state = State()
        self.events = KeptEvents()
        self.api = ApiServer(find(self.config, {}), self.config, self.log, self.stats)
        self.source = KubernetesSource(self.api, self.config, self.log, self.stats, self.events, self._take)
        self._before = len(plane.requests(NODE_PROXIER.name))

    def _take(self, events: Sequence[Event]) -> None:
        self.state, _ = fold(self.state, events)
        self.told.take(events)

    def queries(self, path: str) -> list[dict[str, str]]:
        """Tell what the server says it was asked for, watches when they begin."""
        asked = self.plane.requests(NODE_PROXIER.name)[self._before :]
        return [dict(each.query) for each in asked if each.path == path and not (each.over and each.verb == "watch")]

    def services(self, namespace: str) -> dict[str, Service]:
        """Give a namespace's Services by name."""
        return {key.name: obj for key, obj in self.state.services.items() if key.namespace == namespace}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was told is as a test wants it."""
        await self.told.until(condition)

    async def until_fresh(self) -> None:
        """Wait until what was told is what a fresh list says."""
        wanted = await asyncio.to_thread(fresh, self.plane)
        await self.until(lambda: self.told.objects == wanted)

    async def until_logged(self, event: str, number: int = 1) -> list[dict[str, object]]:
        """Wait until a fact was logged so many times; give them all."""
        async with asyncio.timeout(PATIENCE):
            while len(self.log.named(event)) < number:
                self.log.news.clear()
                await self.log.news.wait()
        return self.log.named(event)


def fresh(plane: ControlPlane) -> dict[tuple[Kind, ObjectKey], KubernetesObject]:
    """List everything as the administrator, without any selector, and leave out what is not for us."""
    found: dict[tuple[Kind, ObjectKey], KubernetesObject] = {}
    for kind in Kind:
        for obj in decode_json(json.dumps(plane.admin.list(kind)).encode()):
            assert not isinstance(obj, Refusal), obj
            if not isinstance(obj, Skipped) and (isinstance(obj, Service | EndpointSlice) or obj.name == NODE):
                found[kind, obj.key] = obj
    return found


@asynccontextmanager
async def live(
    plane: ControlPlane,
    config: Config = LIVE,
    *,
    credentials: Credentials | None = None,
    server: str = "",
    restored: Sequence[KubernetesObject] | None = None,
) -> AsyncIterator[Live]:
    """Run a source until the block ends, as a user bound to exactly system:node-proxier; all is listed when it begins."""
    kubeconfig = plane.kubeconfig(credentials or NODE_PROXIER, server=server)
    found = Live(plane, config, kubeconfig)
    if restored is not None:
        found.source.restore(restored)
    task = asyncio.create_task(found.source.run())
    try:
        await found.until(lambda: found.state.complete)
        yield found
        assert not task.done(), "a source never ends by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await found.api.aclose()
