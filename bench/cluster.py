"""uproxy and kube-proxy fed by a real API server with thousands of Services: `python -m bench cluster`.

How long a start takes and where the time goes, memory, the longest pause of the event loop, and the time from an API update to
the first packet that is served accordingly. Each proxy has a node of its own and runs alone. Needs root.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.cluster_objects import MOST
from bench.cluster_report import markdown
from bench.cluster_run import MOST_CHANGES, NotServed, Plan, Run, measure
from bench.cluster_site import Site
from bench.cluster_subjects import KubeProxy, Proxy, UProxy
from bench.entry import guarded
from bench.progress import Reporter
from bench.results import save
from tests.cluster.binaries import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

PROXIES: Final = ("uproxy", "kube-proxy")
DESCRIPTORS: Final = 4096
"""Beside one per Service."""
OBJECTS_PER_SECOND: Final = 500
"""How fast they are created, more or less: the time left is guessed from it."""
PLANE_SECONDS: Final = 8


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench cluster", description=__doc__)
    parser.add_argument("--services", default="1000,10000", help=f"how many, several with commas between; {MOST} at most")
    parser.add_argument("--idle-services", type=int, default=100, help="before that: how many for a start and idle memory alone; 0: not")
    parser.add_argument("--idle", type=float, default=15.0, help="seconds after a start until memory is read")
    parser.add_argument("--rates", default="1,10,100", help="changes a second")
    parser.add_argument("--seconds", type=float, default=20.0, help=f"of each rate; 20 to {MOST_CHANGES} changes are made in any case")
    parser.add_argument("--proxies", default=",".join(PROXIES))
    parser.add_argument("--sync", default="", help="uproxy's settings of that group: debounce=20ms,debounceLimit=100ms")
    parser.add_argument("--quick", action="store_true", help="200 Services, 20 changes of each kind: enough to see whether everything runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.services, options.idle_services, options.rates, options.seconds, options.idle = "200", 0, "10", 1.0, 1.0
    options.services = sorted(int(number) for number in options.services.split(","))
    options.rates = tuple(int(rate) for rate in options.rates.split(","))
    options.proxies = options.proxies.split(",")
    options.sync = dict(pair.split("=", 1) for pair in options.sync.split(",") if pair)
    if not all(0 < number <= MOST for number in options.services) or not 0 <= options.idle_services <= options.services[0]:
        parser.error(f"--services: numbers from 1 to {MOST}, none below --idle-services")
    if not all(rate > 0 for rate in options.rates):
        parser.error("--rates: numbers above 0")
    if set(options.proxies) - set(PROXIES):
        parser.error(f"--proxies: some of {','.join(PROXIES)}")
    return options


def plans(options: argparse.Namespace) -> list[Plan]:
    """Give what is measured, smallest first: the fleet only grows."""
    idle = [Plan(options.idle_services, options.idle, (), 0.0)] if options.idle_services else []
    return idle + [Plan(number, options.idle, options.rates, options.seconds) for number in options.services]


class Comparison:
    """All runs, on one control plane. reasons: why a proxy was left out, by name."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._plans = plans(options)
        self.runs: list[Run] = []
        self.reasons: dict[str, str] = {}

    @property
    def estimate(self) -> int:
        """Give the seconds that all of it takes, more or less: as many steps does the reporter count."""
        creation = 2 * self._plans[-1].services // OBJECTS_PER_SECOND + len(self._plans)
        return PLANE_SECONDS + creation + len(self._options.proxies) * sum(plan.estimate for plan in self._plans)

    @property
    def failed(self) -> bool:
        """Whether uproxy was left out, or something was not served."""
        return "uproxy" in self.reasons or any(found.not_served for found in self.runs)

    def run(self, reporter: Reporter) -> None:
        """Measure everything; what was measured before an interruption is kept."""
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(hard, self._options.services[-1] + MOST_CHANGES + DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            reporter.begin("starting the API server")
            with Site(Path(folder)) as site:
                reporter.done("API server: ready", PLANE_SECONDS)
                proxies: dict[str, Proxy] = {"uproxy": UProxy(Path(folder), self._options.sync), "kube-proxy": KubeProxy(Path(folder))}
                for plan in self._plans:
                    self._grow(site, plan, reporter)
                    for name in self._options.proxies:
                        self._measure(site, proxies[name], plan, reporter)

    def section(self) -> dict[str, Any]:
        """Give all of it as it is kept: the table as Markdown, and what it was made of. reason: why a proxy was left out."""
        table = markdown(self.runs, self._options.rates) if self.runs else ""
        reason = "; ".join(f"{name}: {words}" for name, words in self.reasons.items())
        return {"markdown": table, "reason": reason, "sync": self._options.sync, "runs": [_plain(found) for found in self.runs]}

    def _grow(self, site: Site, plan: Plan, reporter: Reporter) -> None:
        before = site.fleet.size
        reporter.begin(f"{plan.services:,} Services: creating")
        rate = site.fleet.grow(plan.services, reporter.going)
        steps = 2 * (plan.services - before) // OBJECTS_PER_SECOND + 1
        reporter.done(f"{plan.services:,} Services: created, {rate:.0f} objects a second", steps)

    def _measure(self, site: Site, proxy: Proxy, plan: Plan, reporter: Reporter) -> None:
        reason = self.reasons.get(proxy.node) or proxy.reason()
        if not reason:
            try:
                self.runs.append(measure(site, proxy, plan, reporter))
            except (NotServed, RuntimeError) as failure:
                reason = f"{plan.services:,} Services: {failure}"
            else:
                return
        self.reasons[proxy.node] = reason
        reporter.done(f"{proxy.node}: left out: {reason}", plan.estimate)


def run(options: argparse.Namespace) -> int:
    """Measure and print everything; exit code 1 when something is not served."""
    comparison = Comparison(options)
    try:
        with Reporter(comparison.estimate) as reporter:
            comparison.run(reporter)
    finally:
        _print(comparison)
    return int(comparison.failed)


def _print(comparison: Comparison) -> None:
    section = comparison.section()
    print(*filter(None, (section["markdown"], section["reason"])), sep="\n")
    if comparison.runs:
        print(f"Raw runs: {save('cluster', section)}")


def _plain(found: Run) -> dict[str, Any]:
    moments = {"started": found.started, "idle": found.idle, "end": found.end}
    costs = {name: {**cost._asdict(), "memory": cost.memory._asdict()} for name, cost in moments.items()}
    changes = [{**series._asdict(), "seen": [list(seen) for seen in series.seen]} for series in found.changes]
    return {**found._asdict(), **costs, "changes": changes, "nft": found.nft._asdict()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = parse(argv)
    lacking = missing()
    if lacking:
        print(f"bench cluster: {lacking}", file=sys.stderr)
        return 2
    return guarded("bench cluster", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
