"""Where Services come from: a folder of manifests, or an API server with the last known state beside it.

Owns putting either together from the settings, and which tasks it takes. Decides nothing about what is read. The
rest of the process sees one thing: a source that runs, a recorder of Events, and who is told what has been applied.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from uproxy.errors import UsageError
from uproxy.event_recorder import NoRecorder
from uproxy.sources.folder import check_folder
from uproxy.sources.manifests import ManifestSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from uproxy.api_stats import ApiStats
    from uproxy.config import Config
    from uproxy.core.state import Event, State
    from uproxy.event_recorder import EventRecorder
    from uproxy.log import Log
    from uproxy.sources.kubernetes.access import Access

    Sink = Callable[[Sequence[Event]], None]


class Origin(Protocol):
    """A source of Services with what belongs to it."""

    @property
    def recorder(self) -> EventRecorder:
        """Give who takes Events."""

    @property
    def refusals(self) -> Mapping[str, int]:
        """Count what was refused since the start, by reason."""

    def applied(self, state: State) -> None:
        """Take note of the state that is in force now."""

    async def run(self) -> None:
        """Feed the sink until cancelled."""


class Folder:
    """A folder of manifests."""

    def __init__(self, config: Config, log: Log, sink: Sink) -> None:
        self.recorder = NoRecorder()
        self._source = ManifestSource(config.manifests, config, log, sink)

    @property
    def refusals(self) -> Mapping[str, int]:
        """Count what was refused since the start, by reason."""
        return self._source.refusals

    def applied(self, state: State) -> None:
        """Do nothing: the folder itself is what a start begins with."""

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        await self._source.run()


class Cluster:
    """An API server, whose last known state is served until it answers."""

    def __init__(self, config: Config, access: Access, log: Log, stats: ApiStats, sink: Sink) -> None:
        from uproxy.sources.checkpoint import Checkpoint, load  # noqa: PLC0415 - not needed for a folder
        from uproxy.sources.kubernetes.client import ApiServer  # noqa: PLC0415 - 1 MB and 20 ms that a folder does not need
        from uproxy.sources.kubernetes.events import Recorder  # noqa: PLC0415 - as above
        from uproxy.sources.kubernetes.source import KubernetesSource  # noqa: PLC0415 - as above

        self._api_server = ApiServer(access, config, log, stats)
        self.recorder = Recorder(self._api_server, config, log, stats)
        self._source = KubernetesSource(self._api_server, config, log, stats, self.recorder, sink)
        self._checkpoint = Checkpoint(config, log, stats)
        restored = load(config, log)
        if restored is not None:
            stats.state_restored_from = restored.saved
            self._source.restore(restored.objects)

    @property
    def refusals(self) -> Mapping[str, int]:
        """Count what was refused since the start, by reason."""
        return self._source.refusals

    def applied(self, state: State) -> None:
        """Have the state written to disk some time."""
        self._checkpoint.note(state)

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._source.run(), name="api-server")
                tasks.create_task(self.recorder.run(), name="events")
                tasks.create_task(self._checkpoint.run(), name="last-known-state")
        finally:
            await self._api_server.aclose()


def check(config: Config, environ: Mapping[str, str]) -> Access | None:
    """Find out where Services come from, before anything is touched; None: from a folder. Raises UsageError."""
    if config.manifests:
        given = [flag for flag, value in (("--kubeconfig", config.kubeconfig), ("--master", config.master)) if value]
        if given:
            raise UsageError(f"--manifests and {given[0]}: choose one, Services come either from a folder or from an API server")
        check_folder(config.manifests)
        return None
    from uproxy.sources.kubernetes.access import find  # noqa: PLC0415 - 1 MB and 20 ms that a folder does not need

    return find(config, environ)
