"""Writes docs/metrics.md from what the collector really gives, or checks it.

`--write` brings the file up to date, `--check` exits 1 when it is not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uproxy.admin.metrics import Measured, Metrics
from uproxy.api_stats import ApiStats
from uproxy.config import MetricsSettings
from uproxy.config_stats import ConfigStats
from uproxy.core.balance import AffinityTable, Ejector
from uproxy.core.model import Kind, Protocol, ServicePortName
from uproxy.dataplane.counters import Counters, Traffic
from uproxy.dataplane.descriptors import Descriptors
from uproxy.loop_probe import LoopProbe
from uproxy.sync_stats import SyncStats

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
INTRODUCTION: Final = """\
# Metrics

`/metrics` on `metricsBindAddress` (127.0.0.1:10249) speaks Prometheus' text format. Names that begin with `kubeproxy_` are
kube-proxy's own and mean the same, so its dashboards work; `uproxy_` ones are about the data path. `process_` ones are the
Prometheus library's: memory, CPU, descriptors.

Everything is counted as plain integers where it happens and read when somebody asks. No label has a value per client.
Series per Service (`uproxy_service_...`) are there with `metrics.perService`, for `metrics.perServiceLimit` ServicePorts at
most; the number of those left out is a metric too.

| metric | type | labels | meaning |
|---|---|---|---|
"""


class _Nothing:
    """A data plane and a source that have carried and refused one thing of each sort."""

    refusals: Final = {"reason": 1}

    def note_kernel_drops(self) -> None:
        """Find none."""

    def traffic(self) -> list[tuple[ServicePortName, Traffic]]:
        """Give one ServicePort."""
        return [(ServicePortName("default", "web", "http", Protocol.TCP), Traffic())]

    def totals(self) -> Traffic:
        """Give zeros."""
        return Traffic()


def _api() -> ApiStats:
    """Count one thing of each sort."""
    api = ApiStats()
    api.request("GET", "host", 200, 0.1)
    api.restarted(Kind.NODE, "reason")
    api.heard(Kind.NODE, 0)
    api.event_dropped("reason")
    return api


def _configuration() -> ConfigStats:
    """Have one setting that waits."""
    stats = ConfigStats()
    stats.pending = ("setting",)
    return stats


def page() -> str:
    """Make the whole page."""
    counters = Counters()
    for value in vars(counters).values():
        if isinstance(value, dict):
            value["reason"] = 1
    nothing = _Nothing()
    measured = Measured(
        settings=MetricsSettings(per_service=True),
        counters=counters,
        carried=nothing,
        stats=SyncStats(),
        descriptors=Descriptors(1024, 10, 128, 0.5),
        affinity=AffinityTable(1),
        ejector=Ejector(1, 1, 1),
        source=nothing,
        api=_api(),
        probe=LoopProbe(1),
        configuration=_configuration(),
    )
    metrics = Metrics(measured)
    metrics.asked("healthz", 200)
    metrics.asked("livez", 200)
    return INTRODUCTION + "".join(_row(family) for family in metrics.registry.collect() if not family.name.startswith("process_"))


def _row(family: Metric) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    return f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |\n"


def main() -> str:
    """Write or check; gives what is wrong, empty if nothing is."""
    wanted = page()
    if "--write" in sys.argv:
        PAGE.write_text(wanted, encoding="utf-8")
        return ""
    is_current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted
    return "" if is_current else "docs/metrics.md is out of date: run `make docs`"


if __name__ == "__main__":
    sys.exit(main() or 0)
