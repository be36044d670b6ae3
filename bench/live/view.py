"""What one sees while a load runs, on stderr: a few lines that are drawn anew on a terminal, else a line per second."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.live.drawing import Marks, listing, marks, span, sparkline

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.live.lane import Site
    from bench.live.schedule import Schedule

REFRESHES: Final = 4
"""Of the screen in a second. Each takes 0.2 to 0.7 ms in which nothing is sent or received."""


class View:
    """Ends a second of the tally whenever one is over, and shows what there is to see."""

    def __init__(self, site: Site, schedule: Schedule) -> None:
        self._site = site
        self._schedule = schedule
        self._console = Console(file=sys.stderr)
        self._second = self._told = 0
        self._marks = marks(self._console.encoding)

    async def run(self, elapsed: Callable[[], float]) -> None:
        """Show until cancelled."""
        if self._site.options.quiet:
            return
        if self._console.is_terminal:
            await self._draw(elapsed)
        else:
            await self._tell(elapsed)

    async def _tell(self, elapsed: Callable[[], float]) -> None:
        while True:
            await asyncio.sleep(self._second + 1 - elapsed())
            self._say()

    def finish(self) -> None:
        """Tell of the rest, which may be a little less than a second."""
        if not self._site.options.quiet and not self._console.is_terminal and self._site.tally.sent > self._told:
            self._say()

    def _say(self) -> None:
        self._second += 1
        self._told = self._site.tally.sent
        print(line(self._site, self._schedule, self._second), file=sys.stderr, flush=True)

    async def _draw(self, elapsed: Callable[[], float]) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            refresh = 0
            while True:
                refresh += 1
                await asyncio.sleep(refresh / REFRESHES - elapsed())
                if refresh % REFRESHES == 0:
                    self._site.tally.next_second()
                live.update(Text(screen(self._site, self._schedule, elapsed(), self._marks), no_wrap=True, overflow="crop"), refresh=True)


def line(site: Site, schedule: Schedule, second: int) -> str:
    """Tell of the second that has just ended."""
    tally = site.tally
    last = tally.next_second()
    parts = [f"{second:4} s  {last.sent}/s of {site.options.rate:g}/s", f"in flight {tally.under_way}", f"failed {last.failed}"]
    if schedule.busy or schedule.late:
        parts.append(f"not sent {schedule.busy + schedule.late}")
    if last.answered:
        parts.append(f"p99 {span(last.p99)}")
    return "  ".join(parts)


def screen(site: Site, schedule: Schedule, elapsed: float, style: Marks) -> str:
    """Tell of the load so far, and draw the last seconds."""
    options, tally, late = site.options, site.tally, site.tally.latencies
    seconds = tally.seconds
    latest = seconds[-1].sent if seconds else round(tally.sent / max(elapsed, 0.001))
    failed = f"{tally.failed}" + (f"  {listing(tally.reasons)}" if tally.reasons else "")
    missed = schedule.busy + schedule.late
    quantiles = "  ".join(f"{name} {span(late.quantile(share))}" for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)))
    rows = [
        (options.kind, f"{options.target}  {min(elapsed, options.duration):.1f} s of {options.duration:g} s"),
        ("rate", f"{latest}/s of {options.rate:g}/s"),
        ("sent", f"{tally.sent}" + (f"  not sent {missed}" if missed else "")),
        ("in flight", f"{tally.under_way} of {options.connections}"),
        ("failed", failed),
        ("latency", f"{quantiles}  max {span(late.greatest)}" if late.count else "no answer yet"),
    ]
    if seconds:
        rows.append(("rate 60 s", sparkline([second.sent for second in seconds], style)))
        rows.append(("p99 60 s", sparkline([second.p99 for second in seconds], style)))
    if any(second.failed for second in seconds):
        rows.append(("fail 60 s", sparkline([second.failed for second in seconds], style)))
    return "\n".join(f"{title:<9}  {text}" for title, text in rows)
