"""What is done through each subject: one module per kind of load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.workloads import bulk, changes, connections, datagrams, half_load, idle, requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.workloads.base import Workload

WORKLOADS: Final[Mapping[str, Workload]] = {
    **bulk.WORKLOADS,
    **requests.WORKLOADS,
    **half_load.WORKLOADS,
    **connections.WORKLOADS,
    **idle.WORKLOADS,
    **datagrams.WORKLOADS,
    **changes.WORKLOADS,
}
"""By the name on the command line, in the report's order."""
