"""How the story is shown: a live table on a terminal, plain lines elsewhere. Decides nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from examples.show.story import Check, Phase, Story
    from examples.show.traffic import Tally

SERVICES: Final = ("web", "cart", "clock")
WIDEST_BAR: Final = 14
TITLE: Final = 16
BESIDE_BARS: Final = 64
"""Columns of the table of endpoints that are no bars."""
REFRESH_SECONDS: Final = 0.1
STYLES: Final = {"ready": "green", "killed": "bold red", "not listed": "yellow"}


class Plain:
    """One line per fact."""

    def __init__(self, story: Story | None = None) -> None:
        self.story = story

    def begins(self, number: int, of: int, phase: Phase) -> None:
        """Say what happens."""
        print(f"\n{number}/{of} {phase.title}. {phase.told}", flush=True)

    def note(self, text: str) -> None:
        """Say it."""
        print(f"    {text}", flush=True)

    def ends(self, tally: Tally, checks: Sequence[Check]) -> None:
        """Say who answered how often, and what was kept."""
        for service in SERVICES:
            shares = "  ".join(f"{name} {count}" for name, count in sorted(tally.by_backend(service).items()))
            print(f"    {service:5}  {shares}")
        for check in checks:
            print(f"    {'ok' if check.kept else 'NOT SO'}: {check.promise}", flush=True)

    async def run(self) -> None:
        """Nothing moves here."""


class Lively:
    """The whole state, redrawn ten times a second; a finished phase leaves its lines above."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._bar = max(0, min(WIDEST_BAR, (console.width - BESIDE_BARS) // len(SERVICES)))
        self._phase: tuple[int, int, Phase] | None = None
        self._notes: list[str] = []
        self.story: Story | None = None

    def begins(self, number: int, of: int, phase: Phase) -> None:
        """Show another phase."""
        self._phase = number, of, phase
        self._notes = []

    def note(self, text: str) -> None:
        """Show it until the phase ends."""
        self._notes.append(text)

    def ends(self, tally: Tally, checks: Sequence[Check]) -> None:  # noqa: ARG002 - a plain screen shows the tally here
        """Leave a line about the phase above the table."""
        lines = Text()
        for check in checks:
            lines.append("✓ " if check.kept else "✗ ", "green" if check.kept else "bold red")
            lines.append(f"{check.promise}   ", "" if check.kept else "red")
        for note in self._notes:
            lines.append(f"({note})", "dim")
        row = Table.grid(padding=(0, 1))
        row.add_column(width=TITLE)
        row.add_row(Text(f" {self._phase[2].title if self._phase else ''}", "bold"), lines)
        self._console.print(row)

    async def run(self) -> None:
        """Draw until cancelled; the last picture is cleared away."""
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._picture(), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)

    def _picture(self) -> Panel:
        if self.story is None or self._phase is None:
            return _framed(Text("starting the endpoints and uproxy ..."), self._title)
        number, of, phase = self._phase
        headline = Text.assemble((f"{number}/{of}  {phase.title}. ", "bold"), phase.told)
        endpoints, clients = _endpoints(self.story, self._bar), _clients(self.story)
        return _framed(Group(headline, Text(), endpoints, Text(), clients, Text(), _totals(self.story)), self._title)


def _framed(content: Group | Text, title: str) -> Panel:
    return Panel(Padding(content, (0, 1)), title=f"[bold]{title}[/]", title_align="left", box=box.ROUNDED, border_style="cyan")


def _endpoints(story: Story, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("endpoint", "", *SERVICES):
        table.add_column(column, no_wrap=True)
    counts = {service: story.traffic.phase.by_backend(service) for service in SERVICES}
    for backend in (*story.stage.backends, story.stage.newcomer):
        state = story.state[backend.name]
        cells = [_bar(counts[service][backend.name], counts[service].total(), width) for service in SERVICES]
        table.add_row(Text(backend.name, "bold"), Text(state, STYLES[state]), *cells)
    return table


def _bar(count: int, total: int, width: int) -> Text:
    part = count / total if total else 0.0
    full = round(part * width)
    return Text.assemble(("█" * full, "cyan"), ("·" * (width - full), "dim"), f" {count:>4} {part:>4.0%}")


def _clients(story: Story) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    seen = bool(story.stage.seen_as)
    for column in ("client", "address", "its cart is at", *(["endpoints see it as"] if seen else [])):
        table.add_column(column, no_wrap=True)
    for client in story.stage.clients:
        pinned = " ".join(sorted(story.traffic.phase.backends_of("cart", client.name)))
        row: list[RenderableType] = [client.name, client.address, Text(pinned, "bold")]
        if seen:
            row.append(" ".join(sorted(story.traffic.phase.seen.get(client.name, ()))))
        table.add_row(*row)
    return table


def _totals(story: Story) -> Text:
    total = story.traffic.total
    failed = len(total.failures)
    text = Text.assemble("requests ", (f"{total.requests:,}", "bold"), "   failed ", (f"{failed}", "bold red" if failed else "bold green"))
    text.append(f"   datagrams sent again {total.sent_again}", "dim")
    if story.held:
        state = "broken" if story.held.broken else f"{story.held.answers} answers"
        text.append(f"   open connection to {story.held.backend.name}: {state}", "dim")
    return text
