"""Numbers for the metrics tests: the real counters, and a data plane and a source that hold what a test puts in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uproxy.admin.metrics import Measured
from uproxy.api_stats import ApiStats
from uproxy.config import MetricsSettings
from uproxy.config_stats import ConfigStats
from uproxy.core.balance import AffinityTable, Ejector
from uproxy.dataplane.counters import Counters, Traffic
from uproxy.dataplane.descriptors import Descriptors
from uproxy.loop_probe import LoopProbe
from uproxy.sync_stats import SyncStats

if TYPE_CHECKING:
    from uproxy.core.model import ServicePortName


class Carried:
    """Traffic by ServicePort, and the refusals of a source."""

    def __init__(self) -> None:
        self.ports: dict[ServicePortName, Traffic] = {}
        self.refusals: dict[str, int] = {}
        self.asked_for_drops = 0

    def note_kernel_drops(self) -> None:
        self.asked_for_drops += 1

    def traffic(self) -> list[tuple[ServicePortName, Traffic]]:
        return list(self.ports.items())

    def totals(self) -> Traffic:
        total = Traffic()
        for traffic in self.ports.values():
            total.add(traffic)
        return total


def measured(carried: Carried | None = None, settings: MetricsSettings | None = None) -> Measured:
    """Put everything together."""
    carried = carried or Carried()
    return Measured(
        settings=settings or MetricsSettings(),
        counters=Counters(),
        carried=carried,
        stats=SyncStats(),
        descriptors=Descriptors(1024, 24, 100, 0.5),
        affinity=AffinityTable(10),
        ejector=Ejector(3, 10, 60),
        source=carried,
        api=ApiStats(),
        probe=LoopProbe(0.1),
        configuration=ConfigStats(),
    )
