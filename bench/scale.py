"""uproxy with thousands of Services from manifests: `python -m bench.scale`.

How long until all are served, how long one change takes, memory, the longest pause of the event loop, and
what nft takes for such a table. The real `uproxy run` with nftables, on all CPUs. Needs root.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.entry import guarded
from bench.measurement import load_server
from bench.progress import Reporter
from bench.results import save
from bench.scale_manifests import ENDPOINTS, FORMATS, MOST, PER_FILE
from bench.scale_run import Costs, Fleet, TookTooLong
from bench.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.nft_times import Times

DESCRIPTORS: Final = 4096
"""Beside one per Service."""


class Scale(NamedTuple):
    """What one size and format gave; times in seconds."""

    services: int
    form: str
    bytes: int
    served: float
    not_served: int
    started: Costs
    endpoint_added: list[float]
    service_added: list[float]
    service_removed: list[float]
    changed: Costs
    nft: Times


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench scale", description=__doc__)
    parser.add_argument("--services", default="1000,10000", help=f"how many, several with commas between; {MOST} at most")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--changes", type=int, default=10, help="how often each kind of change is made")
    parser.add_argument("--quick", action="store_true", help="200 Services and 2 changes: enough to see whether everything runs")
    options = parser.parse_args(argv)
    options.services = [200] if options.quick else [int(number) for number in options.services.split(",")]
    options.changes = 2 if options.quick else options.changes
    options.formats = options.formats.split(",")
    if not all(0 < number <= MOST for number in options.services):
        parser.error(f"--services: numbers from 1 to {MOST}")
    if set(options.formats) - set(FORMATS):
        parser.error(f"--formats: some of {','.join(FORMATS)}")
    return options


def measure(form: str, count: int, changes: int, reporter: Reporter) -> Scale:
    """Measure one size in one format; raises TookTooLong."""
    spots = [count * number // changes for number in range(changes)]
    new = range(count, count + changes)
    with tempfile.TemporaryDirectory(prefix="bench-") as work, Topology() as topology, load_server(topology):
        reporter.begin(f"{count} Services in {form}: writing manifests")
        with Fleet(topology, Path(work), form, count) as fleet:
            reporter.begin(f"{count} Services in {form}: starting")
            served = fleet.start()
            reporter.done(f"{count} Services in {form}: served after {served:.2f} s", _start_estimate(count))
            missing = fleet.not_served()
            started = fleet.costs()
            reporter.begin(f"{count} Services in {form}: changing")
            endpoints = [fleet.add_endpoint(number) for number in spots]
            added = [fleet.add_service(number) for number in new]
            removed = [fleet.remove_service(number) for number in new]
            nft = fleet.nft_times()
            reporter.done(f"{count} Services in {form}: changed", _change_estimate(changes))
            return Scale(count, form, fleet.bytes, served, missing, started, endpoints, added, removed, fleet.costs(), nft)


def estimate(options: argparse.Namespace) -> int:
    """Give the seconds that all of it takes, more or less: as many steps does the reporter count."""
    changing = len(options.services) * len(options.formats) * _change_estimate(options.changes)
    return changing + len(options.formats) * sum(_start_estimate(count) for count in options.services)


def _start_estimate(count: int) -> int:
    return 4 + count // 600


def _change_estimate(changes: int) -> int:
    return 1 + 4 * changes  # three kinds of change, each left alone for a second


class Found:
    """What was measured so far. reason: why the rest was not; empty if there is none. wanted: sizes and formats."""

    def __init__(self, wanted: int) -> None:
        self.scales: list[Scale] = []
        self.reason = ""
        self._wanted = wanted

    @property
    def failed(self) -> bool:
        """Whether something was not served or not measured."""
        return len(self.scales) < self._wanted or any(scale.not_served for scale in self.scales)

    def section(self) -> dict[str, Any]:
        """Give all of it as it is kept: the table as Markdown, and what it was made of."""
        return {"markdown": table(self.scales) if self.scales else "", "reason": self.reason, "runs": list(map(_plain, self.scales))}


def collect(options: argparse.Namespace, reporter: Reporter) -> Found:
    """Measure every size and format, until one takes too long."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(hard, max(options.services) + options.changes + DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    cases = [(form, count) for count in options.services for form in options.formats]
    found = Found(len(cases))
    try:
        for form, count in cases:
            found.scales.append(measure(form, count, options.changes, reporter))
    except (TookTooLong, RuntimeError) as reason:
        found.reason = str(reason)
    return found


def _plain(scale: Scale) -> dict[str, Any]:
    moments = {"started": scale.started, "changed": scale.changed}
    costs = {name: {**cost._asdict(), "memory": cost.memory._asdict()} for name, cost in moments.items()}
    return {**scale._asdict(), **costs, "nft": scale.nft._asdict()}


def table(found: Sequence[Scale]) -> str:
    """Give everything as a Markdown table, one column per size and format."""
    head = ["", *(f"{scale.services:,} ({scale.form}, {scale.bytes / 1e6:.1f} MB)" for scale in found)]
    columns = [list(_column(scale)) for scale in found]
    rows = [head, ["---", *("---:" for _ in found)]]
    rows += [[label, *(column[place][1] for column in columns)] for place, (label, _) in enumerate(columns[0])]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    changes = len(found[0].endpoint_added)
    return "\n".join([*lines, "", f"{ENDPOINTS} endpoints each, {PER_FILE} Services to a file. Changes: median (greatest) of {changes}."])


def _column(scale: Scale) -> Iterator[tuple[str, str]]:
    yield "start to all served, s", f"{scale.served:.2f}"
    yield "Services that do not answer then", str(scale.not_served)
    yield "CPU of the start, s", f"{scale.started.cpu:.2f}"
    yield "endpoint added to first answer, ms", _milliseconds(scale.endpoint_added)
    yield "Service added to first answer, ms", _milliseconds(scale.service_added)
    yield "Service removed to refused, ms", _milliseconds(scale.service_removed)
    yield "resident memory (proportional) after the start, MB", _megabytes(scale.started)
    yield "resident memory (proportional) at the end, MB", _megabytes(scale.changed)
    yield "longest pause of the loop while starting, ms", f"{scale.started.pause * 1000:.1f}"
    yield "longest pause in all, ms", f"{scale.changed.pause * 1000:.1f}"
    yield "nft, whole table, ms", f"{scale.nft.whole * 1000:.0f}"
    yield "nft, one element more, ms", f"{scale.nft.one * 1000:.1f}"


def _milliseconds(seconds: list[float]) -> str:
    return f"{median(seconds) * 1000:.0f} ({max(seconds) * 1000:.0f})"


def _megabytes(costs: Costs) -> str:
    return f"{costs.memory.resident / 1e6:.0f} ({costs.memory.proportional / 1e6:.0f})"


def run(options: argparse.Namespace) -> int:
    """Measure and print everything; exit code 1 when something is not served."""
    with Reporter(estimate(options)) as reporter:
        found = collect(options, reporter)
    section = found.section()
    if found.reason:
        print(f"bench scale: {found.reason}", file=sys.stderr)
    if found.scales:
        print(section["markdown"])
        print(f"Raw figures: {save('scale', section)}")
    return int(found.failed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = parse(argv)
    return guarded("bench scale", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
