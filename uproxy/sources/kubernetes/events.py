"""Tells the cluster: Events, written to events.k8s.io/v1 by a task of their own, as `kubectl describe` shows them.

Owns the pace and the patience of that writing, and what an Event's object looks like. What is worth writing is
event_series' business. Invariant: whatever the server does, record() returns at once and memory stays bounded; an
Event that cannot be written comes to nothing and is counted.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from uproxy.sources.kubernetes.api_errors import ApiError, Forbidden, Garbled, Gone, Refused
from uproxy.sources.kubernetes.backoff import Backoff
from uproxy.sources.kubernetes.event_series import Correlator, cut

if TYPE_CHECKING:
    from uproxy.api_stats import ApiStats
    from uproxy.config import Config
    from uproxy.core.model import ObjectKey
    from uproxy.event_recorder import ClusterEvent
    from uproxy.log import Log
    from uproxy.sources.kubernetes.client import ApiServer
    from uproxy.sources.kubernetes.event_series import Series

CONTROLLER: Final = "uproxy"
API_VERSION: Final = "events.k8s.io/v1"
NAMESPACE_OF_NODES: Final = "default"
"""Where Events about objects without a namespace belong (client-go's event_recorder.go)."""
INSTANCE_BYTES: Final = 128
"""The longest reportingInstance that the API takes; a node's name may be longer."""
USELESS: Final = (Forbidden, Refused, Gone)
"""What the server will say to the same request the next time, too."""
TERMINATING: Final = "it is being terminated"
"""How a Forbidden ends that only says that the namespace is about to go: nobody's mistake."""


class Recorder:
    """The EventRecorder of a cluster. run() writes what record() took."""

    def __init__(self, api_server: ApiServer, config: Config, log: Log, stats: ApiStats) -> None:
        self._api = api_server
        self._settings = config.kubernetes
        self._instance = cut(config.node_name, INSTANCE_BYTES)
        self._log = log
        self._stats = stats
        self._correlator = Correlator(self._settings)
        self._wake = asyncio.Event()
        self._backoff = Backoff(self._settings, random.Random())
        self._paid_until = 0.0
        self._refusals: set[str] = set()

    def record(self, event: ClusterEvent) -> None:
        """Hand over an Event; equal ones become one with a count, one too many is dropped and counted."""
        if self._correlator.add(event, time.monotonic(), time.time()):
            self._wake.set()
        else:
            self._stats.event_dropped("queue_full")

    async def run(self) -> None:
        """Write Events until cancelled."""
        while True:
            await self._due()
            await asyncio.sleep(self._toll(time.monotonic()))
            series = self._correlator.next(time.monotonic())
            if series is not None:
                await self._write(series)

    async def _due(self) -> None:
        """Wait until something is to be written."""
        while True:
            self._wake.clear()
            seconds = self._correlator.wait(time.monotonic())
            if seconds == 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    def _toll(self, now: float) -> float:
        """Give the seconds until one more request is within the rate: a burst is free, then one per interval."""
        interval = self._settings.event_interval
        self._paid_until = max(self._paid_until, now) + interval
        return max(0.0, self._paid_until - now - self._settings.event_burst * interval)

    async def _write(self, series: Series) -> None:
        """Have the server know a series as it is now. Without an answer: wait, and give up what has waited for too long."""
        count = series.count
        try:
            await (self._count(series) if series.written else self._create(series))
        except USELESS as error:
            if isinstance(error, Forbidden) and not _is_terminating(error):
                await self._unanswered(error)
            else:
                self._refused(series, error)
        except ApiError as error:
            await self._unanswered(error)
        else:
            self._backoff.reset()
            self._stats.events_sent += 1
            self._correlator.written(series, count, time.monotonic())

    async def _create(self, series: Series) -> None:
        body = creation(series, await self._uid(series.event), self._instance)
        try:
            await self._api.send("POST", _path(series.event.key), body, "application/json")
        except Refused as error:
            # An earlier request did arrive, its answer did not.
            if error.status_reason != "AlreadyExists":
                raise
            await self._count(series)

    async def _count(self, series: Series) -> None:
        """Write how often it happened, if that is more than once."""
        if series.count > 1:
            await self._api.send("PATCH", f"{_path(series.event.key)}/{series.name}", counting(series), "application/merge-patch+json")

    async def _uid(self, event: ClusterEvent) -> str:
        """Give the uid under which `kubectl describe` looks for Events: a Service's own, or the Node's name, as kubelet and kube-proxy do.

        The role system:node-proxier may list Services, not get one. "" for a Service that is gone.
        """
        if event.kind == "Node":
            return event.key.name
        path = f"/api/v1/namespaces/{quote(event.key.namespace, safe='')}/services"
        query = {"fieldSelector": f"metadata.name={event.key.name}"}
        raw = await self._api.get(path, query, self._settings.request_timeout)
        try:
            found = _decode_list(raw).items
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Garbled(f"a list of Services that is none ({error})", path) from error
        return found[0].metadata.uid if found else ""

    def _refused(self, series: Series, error: ApiError) -> None:
        """Take note that the server will never take this. One that it has lost meanwhile is worth another try."""
        if series.written and error.status_reason == "NotFound":
            self._correlator.lost(series, time.time())
            return
        self._drop(series, error)
        if error.reason not in self._refusals and not _is_terminating(error):
            self._refusals.add(error.reason)
            self._log.warning("event_refused", reason=error, effect="Events like this one are dropped and counted")

    async def _unanswered(self, error: ApiError) -> None:
        """Wait; an API server that has just started forbids everything for a second, until it has loaded its roles."""
        for series in self._correlator.overdue(time.monotonic()):
            if isinstance(error, Forbidden):
                self._refused(series, error)
            else:
                self._drop(series, error)
        await asyncio.sleep(self._backoff.failed(error.retry_after))

    def _drop(self, series: Series, error: ApiError) -> None:
        self._correlator.drop(series)
        self._stats.event_dropped(error.reason)


def _is_terminating(error: ApiError) -> bool:
    return error.what.endswith(f"{TERMINATING})")


class _Found(Struct):
    uid: str = ""


class _Item(Struct):
    metadata: _Found


class _List(Struct):
    items: tuple[_Item, ...]


_decode_list: Final = msgspec.json.Decoder(_List).decode


class _Reference(Struct, rename="camel", omit_defaults=True):
    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


class _Counted(Struct, rename="camel"):
    count: int
    last_observed_time: str


class _Metadata(Struct):
    name: str
    namespace: str


class _Event(Struct, rename="camel", omit_defaults=True):
    api_version: str
    kind: str
    metadata: _Metadata
    event_time: str
    reporting_controller: str
    reporting_instance: str
    type: str
    reason: str
    action: str
    regarding: _Reference
    note: str
    series: _Counted | None = None


def creation(series: Series, uid: str, instance: str) -> bytes:
    """Give the object of an Event, as JSON. uid: the regarded object's, "" when it is not known; instance: who reports."""
    event = series.event
    return msgspec.json.encode(
        _Event(
            api_version=API_VERSION,
            kind="Event",
            metadata=_Metadata(series.name, event.key.namespace or NAMESPACE_OF_NODES),
            event_time=_micro_time(series.first),
            reporting_controller=CONTROLLER,
            reporting_instance=instance,
            type=event.type,
            reason=event.reason,
            action=event.action,
            regarding=_Reference("v1", event.kind, event.key.name, event.key.namespace, uid),
            note=event.note,
            series=_counted(series) if series.count > 1 else None,
        )
    )


def counting(series: Series) -> bytes:
    """Give the merge patch (RFC 7386) that tells how often an Event has happened."""
    return msgspec.json.encode({"series": _counted(series)})


def _counted(series: Series) -> _Counted:
    return _Counted(series.count, _micro_time(series.last))


def _micro_time(unix: float) -> str:
    """Write a time as metav1.MicroTime reads it: RFC 3339 with exactly six digits after the second."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _path(key: ObjectKey) -> str:
    return f"/apis/{API_VERSION}/namespaces/{quote(key.namespace or NAMESPACE_OF_NODES, safe='')}/events"
