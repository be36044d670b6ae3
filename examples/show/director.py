"""Plays a story from start to summary and gives the exit code. Owns the temporary folder and Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from examples.show.company import Company
from examples.show.manifests import Manifests
from examples.show.screen import Lively, Plain
from examples.show.stage import CannotPlay
from examples.show.story import Story

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from examples.show.stage import Stage

INTERRUPTED: Final = 130
SHOWN_FAILURES: Final = 5


def main(description: str, build: Callable[[], AbstractContextManager[Stage]]) -> int:
    """Play where `build` says; 0: all promises were kept, 1: not, 2: it cannot be played here, 130: interrupted."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=3.2, help="how long each of the six phases is watched")
    parser.add_argument("--plain", action="store_true", help="plain lines, as without a terminal")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with build() as stage, tempfile.TemporaryDirectory(prefix="uproxy-demo-") as work:
            return asyncio.run(_play(stage, Path(work), options.seconds, plain=options.plain))
    except CannotPlay as reason:
        print(f"demo: {reason}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted: everything that was started has ended", file=sys.stderr)
        return INTERRUPTED


async def _play(stage: Stage, work: Path, seconds: float, *, plain: bool) -> int:
    console = Console()
    screen = Plain() if plain or not console.is_terminal else Lively(console, stage.title)
    start = time.monotonic()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _cancel, asyncio.current_task())
    async with Company(work) as company:
        story = Story(stage, company, Manifests(stage.manifests, work), screen, seconds)
        screen.story = story
        drawing = asyncio.create_task(screen.run())
        try:
            await story.play()
        finally:
            drawing.cancel()
            with suppress(asyncio.CancelledError):
                await drawing
    return _sum_up(story, time.monotonic() - start)


def _cancel(task: asyncio.Task[int] | None) -> None:
    if task:
        task.cancel()


def _sum_up(story: Story, seconds: float) -> int:
    total, kept = story.traffic.total, sum(check.kept for check in story.checks)
    print(f"\n{total.requests} requests in {seconds:.0f} s, {len(total.failures)} failed; {kept} of {len(story.checks)} promises kept.")
    if total.sent_again:
        print(f"{total.sent_again} datagrams were lost with the killed endpoint and sent again by their clients, as UDP wants it.")
    for failure in total.failures[:SHOWN_FAILURES]:
        print(f"  failed: {failure}")
    if total.failures or kept < len(story.checks):
        return 1
    print("\nWhat to try next:")
    for step in story.stage.next_steps:
        print(f"  {step}")
    return 0


def needs_root(what: str) -> None:
    """Refuse to play without root; raises CannotPlay."""
    if os.geteuid() != 0:
        raise CannotPlay(f"{what} needs root: sudo make demo-node (make demo needs none)")
