"""A program for tests, in a mount namespace of its own: `python -m tests.sources.on_small_disk FOLDER OPTIONS [REMOUNT]`.

It mounts a tmpfs on FOLDER. With REMOUNT: saves a small state, remounts with OPTIONS, fails to save a large one
several times, remounts with REMOUNT and succeeds. Without: loads a damaged state from a disk that is read-only.
It writes one line per event, with its reason.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.dataplane.running import RecordingLog
from tests.sources.states import HEADER, many_services, one_service, state_of, until, written
from uproxy.api_stats import ApiStats
from uproxy.config import Config, StateSettings
from uproxy.config_rules import Duration
from uproxy.sources.checkpoint import NAME, Checkpoint, load, store


def mount(folder: str, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def names_in(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what the test reads


async def fail_and_recover(config: Config, options: str, remount: str) -> None:
    stats, log = ApiStats(), RecordingLog()
    found = Checkpoint(config, log, stats)
    task = asyncio.create_task(found.run())
    store(Path(config.state_dir), written(one_service(1)))
    mount(config.state_dir, f"remount,{options}")
    large = many_services(2000)
    found.note(large)
    await until(lambda: stats.state_failures > 2)
    say(" ".join(f"{event} {facts['reason']}" for event, facts in log.facts))
    kept = load(config, RecordingLog())
    alone = names_in(config.state_dir) == [NAME]
    say("former state kept" if kept and alone and state_of(kept.objects) == one_service(1) else "LOST")
    log.facts.clear()
    mount(config.state_dir, f"remount,{remount}")
    await until(lambda: stats.state_saved)
    say(" ".join(event for event, _ in log.facts))
    task.cancel()
    await asyncio.wait([task])
    saved = load(config, RecordingLog())
    say("new state saved" if saved and state_of(saved.objects) == large else "LOST")


def refuse(config: Config) -> None:
    store(Path(config.state_dir), b"damage")
    mount(config.state_dir, "remount,ro")
    log = RecordingLog()
    restored = load(config, log)
    say(" ".join(f"{event} {facts['reason']}; kept {facts['kept']}" for event, facts in log.facts if restored is None))


def main(folder: str, options: str, remount: str = "") -> None:
    mount(folder, "size=4m")
    state = StateSettings(save_interval=Duration(0.02))
    config = Config(state_dir=folder, node_name=HEADER.node, service_proxy_name=HEADER.service_proxy_name, state=state)
    if remount:
        asyncio.run(fail_and_recover(config, options, remount))
    else:
        refuse(config)


if __name__ == "__main__":
    main(*sys.argv[1:])
