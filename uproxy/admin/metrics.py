"""What is exposed to Prometheus: kube-proxy's own names where they mean something here, uproxy_ ones for the rest.

Owns names, help texts and labels; the numbers are others' plain integers, read when somebody scrapes. Invariant:
no label has a value per client; those per Service are there on request only, and capped.
"""

from __future__ import annotations

import asyncio
import time
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from uproxy.api_stats import ApiStats
    from uproxy.config import MetricsSettings
    from uproxy.config_stats import ConfigStats
    from uproxy.core.balance import AffinityTable, Ejector
    from uproxy.core.model import ServicePortName
    from uproxy.dataplane.counters import Counters, Traffic
    from uproxy.dataplane.descriptors import Descriptors
    from uproxy.histogram import Histogram
    from uproxy.loop_probe import LoopProbe
    from uproxy.sync_stats import SyncStats


class Carried(Protocol):
    """The part of the data plane that is asked what it carried."""

    def note_kernel_drops(self) -> None:
        """Bring the count of datagrams that the kernel dropped up to date."""

    def traffic(self) -> Iterable[tuple[ServicePortName, Traffic]]:
        """Give what each ServicePort with a listener or a connection has carried."""

    def totals(self) -> Traffic:
        """Give what everything together has ever carried."""


class Source(Protocol):
    """The part of a source that is asked what it refused."""

    @property
    def refusals(self) -> Mapping[str, int]:
        """Count refusals by reason."""


class Measured(NamedTuple):
    """Everything that is read at a scrape."""

    settings: MetricsSettings
    counters: Counters
    carried: Carried
    stats: SyncStats
    descriptors: Descriptors
    affinity: AffinityTable
    ejector: Ejector
    source: Source
    api: ApiStats
    probe: LoopProbe
    configuration: ConfigStats


class Metrics:
    """The registry behind /metrics, and the count of questions to the health server."""

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(self, measured: Measured) -> None:
        self._asked: dict[str, dict[str, int]] = {"healthz": {}, "livez": {}}
        self._own = _Collector(measured, self._asked)
        self._process = ProcessCollector(registry=None)
        self.registry = CollectorRegistry()
        self.registry.register(self._process)
        self.registry.register(self._own)

    def use(self, settings: MetricsSettings) -> None:
        """Expose what other settings say from now on."""
        self._own.measured = self._own.measured._replace(settings=settings)

    def asked(self, page: str, status: int) -> None:
        """Count a question to the health server."""
        codes = self._asked[page]
        codes[str(status)] = codes.get(str(status), 0) + 1

    def text(self) -> bytes:
        """Give the exposition (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
        return generate_latest(self.registry)

    async def exposition(self) -> bytes:
        """Give the same, and let the loop go on: 500 ServicePorts take 20 ms to write, 60,000 descriptors as long to count.

        Our own numbers are read here at once, for they change on the loop's thread.
        """
        return await asyncio.to_thread(self._write, tuple(self._own.collect()))

    def _write(self, own: tuple[Metric, ...]) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._process)
        registry.register(_Read(own))
        return generate_latest(registry)


class _Read(Collector):
    """Metrics that have been read."""

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._metrics = metrics

    def collect(self) -> tuple[Metric, ...]:
        return self._metrics


class _Collector(Collector):
    def __init__(self, measured: Measured, asked: Mapping[str, Mapping[str, int]]) -> None:
        self.measured = measured
        self._asked = asked

    def collect(self) -> Iterator[Metric]:
        measured = self.measured
        measured.carried.note_kernel_drops()
        yield from _sync(measured.stats)
        for page, codes in self._asked.items():
            yield _by(f"kubeproxy_proxy_{page}", f"Answers of /{page}", "code", codes)
        yield from _carried(measured.carried.totals())
        yield from _data_path(measured.counters)
        yield from _annotations(measured.counters)
        yield from _resources(measured)
        yield _by("uproxy_source_refusals", "Objects and files refused, by reason", "reason", measured.source.refusals)
        yield from _api(measured.api, time.monotonic(), time.time())
        yield from _configuration(measured.configuration)
        if measured.settings.per_service:
            yield from _per_service(measured.carried.traffic(), measured.settings.per_service_limit)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _sync(stats: SyncStats) -> Iterator[Metric]:
    prefix = "kubeproxy_sync_proxy_rules"
    yield _durations(f"{prefix}_duration_seconds", "Duration of one sync", stats.durations)
    yield _durations(
        "kubeproxy_network_programming_duration_seconds", "From a change of endpoints until it is in force", stats.programming
    )
    yield _gauge(f"{prefix}_last_timestamp_seconds", "When the last sync ended", stats.last_synced)
    yield _gauge(f"{prefix}_last_queued_timestamp_seconds", "When the last change was queued", stats.last_queued)
    yield _gauge(f"{prefix}_service_changes_pending", "Service changes not applied yet", stats.service_changes_pending)
    yield _counter(f"{prefix}_service_changes", "Service changes seen", stats.service_changes_total)
    yield _gauge(f"{prefix}_endpoint_changes_pending", "EndpointSlice changes not applied yet", stats.endpoint_changes_pending)
    yield _counter(f"{prefix}_endpoint_changes", "EndpointSlice changes seen", stats.endpoint_changes_total)
    text = "ServicePorts whose endpoints are all on other nodes"
    here = GaugeMetricFamily(f"{prefix}_no_local_endpoints_total", text, labels=["traffic_policy"])
    for policy, number in stats.no_local_endpoints.items():
        here.add_metric([policy], number)
    yield here
    yield _counter("uproxy_sync_failures", "Syncs that failed and were tried again", stats.failures)
    yield _counter("uproxy_redirect_applies", "Times the kernel was given a new capture", stats.applies)
    yield _counter("uproxy_redirect_repairs", "Times something of ours was missing in the kernel and was put back", stats.repairs)
    yield _gauge("uproxy_refused", "Parts of objects that are refused now", stats.refusals)
    yield _gauge("uproxy_failed_listeners", "Addresses that cannot be listened on now", stats.failed_listeners)
    yield _gauge("uproxy_services", "Services seen", stats.services)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Give the cumulative counts that the exposition format wants."""
    return list(zip((*map(str, histogram.limits), "+Inf"), accumulate(histogram.counts), strict=True))


def _durations(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=_buckets(histogram), sum_value=histogram.sum)


def _carried(totals: Traffic) -> Iterator[Metric]:
    yield _counter("uproxy_connections_accepted", "TCP connections accepted", totals.accepted)
    yield _gauge("uproxy_connections_active", "TCP connections open now", totals.active)
    yield _counter("uproxy_flows", "UDP flows begun", totals.flows)
    yield _gauge("uproxy_flows_active", "UDP flows there now", totals.flows_active)
    yield _by("uproxy_bytes", "Bytes carried, from and to clients", "direction", {"received": totals.received, "sent": totals.sent})
    datagrams = {"received": totals.datagrams_received, "sent": totals.datagrams_sent}
    yield _by("uproxy_datagrams", "Datagrams carried, from and to clients", "direction", datagrams)


def _data_path(counters: Counters) -> Iterator[Metric]:
    yield _counter("uproxy_connect_attempts", "Attempts to connect to an endpoint", counters.connect_attempts)
    yield _by("uproxy_connect_failures", "Attempts that failed", "reason", counters.connect_failures)
    yield _counter("uproxy_connections_failed", "Connections reset because no endpoint could be reached", counters.connections_failed)
    yield _by("uproxy_connections_reset", "Connections that ended by a reset or an error", "reason", counters.connections_reset)
    yield _counter("uproxy_half_close_timeouts", "Half-closed connections ended for silence", counters.half_close_timeouts)
    yield _by("uproxy_accept_errors", "Errors of accept", "reason", counters.accept_errors)
    yield _by("uproxy_accept_pauses", "Times accepting paused for want of something", "reason", counters.accept_pauses)
    yield _counter("uproxy_kept_addresses", "Connections and flows that carry the client's address", counters.kept_addresses)
    yield _by("uproxy_kept_address_fallbacks", "Those that carry the node's instead", "reason", counters.kept_address_fallbacks)
    yield _counter("uproxy_ejections", "Endpoints passed over for a while because they failed", counters.ejections)
    yield _counter("uproxy_spliced_bytes", "Bytes moved by splice", counters.spliced_bytes)
    yield _by("uproxy_flow_evictions", "UDP flows ended early", "reason", counters.flow_evictions)
    yield _by("uproxy_datagrams_dropped", "Datagrams that went nowhere", "reason", counters.datagrams_dropped)


def _annotations(counters: Counters) -> Iterator[Metric]:
    """Give what the annotations of Services brought about (docs/annotations.md)."""
    yield _counter("uproxy_least_connections_choices", "Connections given to the endpoint with the fewest", counters.least_connections)
    yield _counter("uproxy_connections_drained", "Connections reset as their endpoint had left its slices", counters.connections_drained)
    yield _by("uproxy_proxy_protocol_headers", "PROXY headers sent to endpoints", "version", counters.proxy_headers)
    yield _gauge("uproxy_held_connections", "Connections that wait for an endpoint now", counters.held)
    yield _by("uproxy_hold_outcomes", "What became of connections that had to wait for an endpoint", "outcome", counters.hold_outcomes)
    yield _counter("uproxy_connections_over_limit", "Connections reset as their ServicePort had enough", counters.connections_over_limit)
    yield _counter("uproxy_idle_timeouts", "Connections reset as no byte came or went for too long", counters.idle_timeouts)


def _resources(measured: Measured) -> Iterator[Metric]:
    yield _gauge("uproxy_descriptors_taken", "Descriptors that carry traffic", measured.descriptors.taken)
    yield _gauge("uproxy_descriptors_budget", "Descriptors that traffic may take", measured.descriptors.budget)
    yield _gauge("uproxy_affinity_entries", "Clients pinned to an endpoint", len(measured.affinity))
    yield _counter("uproxy_affinity_evictions", "Pinned clients forgotten because there were too many", measured.affinity.evictions)
    yield _gauge("uproxy_suspect_endpoints", "Endpoints that failed lately", len(measured.ejector.suspects))
    yield _gauge("uproxy_loop_lag_seconds", "How late the event loop's last timer was", measured.probe.last)
    yield _gauge("uproxy_loop_pause_seconds_max", "The longest such lag since the start", measured.probe.longest)
    yield _gauge("uproxy_tasks", "Tasks of the event loop: connections and flows have none", measured.probe.tasks)


def _api(api: ApiStats, now: float, unix_now: float) -> Iterator[Metric]:
    requests = CounterMetricFamily("rest_client_requests", "Requests to the API server", labels=["code", "method", "host"])
    for (method, host, code), number in api.requests.items():
        requests.add_metric([code, method, host], number)
    yield requests
    latency = HistogramMetricFamily(
        "rest_client_request_duration_seconds", "Until the head of the API server's answer", labels=["verb", "host"]
    )
    for labels, histogram in api.latencies.items():
        latency.add_metric(labels, _buckets(histogram), histogram.sum)
    yield latency
    restarts = CounterMetricFamily("uproxy_watch_restarts", "Watches begun anew", labels=["kind", "reason"])
    for labels, number in api.restarts.items():
        restarts.add_metric(labels, number)
    yield restarts
    ages = GaugeMetricFamily("uproxy_watch_last_event_age_seconds", "Since a list or watch was last heard of", labels=["kind"])
    for kind, heard in api.last_event.items():
        ages.add_metric([kind], now - heard)
    yield ages
    yield from _state(api, unix_now)


def _state(api: ApiStats, unix_now: float) -> Iterator[Metric]:
    restored = api.state_restored_from
    age = 0.0 if restored is None else unix_now - restored
    yield _gauge("uproxy_state_age_seconds", "Age of the last known state that is served; 0: the source's own is", age)
    yield _gauge("uproxy_state_saved_timestamp_seconds", "When the last known state was last written to disk", api.state_saved)
    yield _counter("uproxy_state_failures", "Times it could not be written", api.state_failures)
    yield _counter("uproxy_events_sent", "Events that the API server has taken", api.events_sent)
    yield _by("uproxy_events_dropped", "Events that came to nothing", "reason", api.events_dropped)


def _configuration(stats: ConfigStats) -> Iterator[Metric]:
    yield _by("uproxy_config_reloads", "Changes of the configuration file, by what became of them", "result", stats.reloads)
    yield _gauge("uproxy_config_refused", "1 while the configuration file is wrong: its former settings are in force", stats.is_refused)
    text = "1 for each setting of the configuration file that waits for the next start"
    waiting = GaugeMetricFamily("uproxy_config_pending_restart", text, labels=["setting"])
    for setting in stats.pending:
        waiting.add_metric([setting], 1)
    yield waiting


def _per_service(traffic: Iterable[tuple[ServicePortName, Traffic]], limit: int) -> Iterator[Metric]:
    known = sorted(traffic, key=lambda one: one[0])
    labels = ["namespace", "service", "port", "protocol"]
    accepted = CounterMetricFamily("uproxy_service_connections_accepted", "TCP connections accepted", labels=labels)
    active = GaugeMetricFamily("uproxy_service_connections_active", "TCP connections open now", labels=labels)
    carried = CounterMetricFamily("uproxy_service_bytes", "Bytes carried", labels=[*labels, "direction"])
    flows = CounterMetricFamily("uproxy_service_flows", "UDP flows begun", labels=labels)
    for service_port, numbers in known[:limit]:
        values = [str(part) for part in service_port]
        accepted.add_metric(values, numbers.accepted)
        active.add_metric(values, numbers.active)
        carried.add_metric([*values, "received"], numbers.received)
        carried.add_metric([*values, "sent"], numbers.sent)
        flows.add_metric(values, numbers.flows)
    yield from (accepted, active, carried, flows)
    left_out = max(0, len(known) - limit)
    yield _gauge("uproxy_service_series_left_out", "ServicePorts without series of their own: the limit is reached", left_out)
