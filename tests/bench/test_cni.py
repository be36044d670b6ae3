"""The measurement of the CNI plugins: its ratios, a small run to a table, and what an interruption leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.cni import Sample, mean_ratio, peers, ratio
from bench.namespaces import FOLDER

MEASURE = [sys.executable, "-m", "bench.cni"]
needs_peers = pytest.mark.skipif(
    not list(peers()), reason="needs the reference plugins: scripts/debian-tools.sh or scripts/cni-binaries.sh"
)


def samples(subject: str, *walls: float) -> list[Sample]:
    return [Sample(subject, "IPv4 ADD", number, wall, wall) for number, wall in enumerate(walls)]


def test_rounds_in_which_the_machine_was_slow_for_all_do_not_move_a_ratio() -> None:
    ours, theirs = samples("ours", 0.01, 0.09, 0.01), samples("peer", 0.02, 0.18, 0.02)

    assert ratio(ours, theirs, lambda sample: sample.cpu) == pytest.approx(0.5)


def test_a_rare_wait_is_seen_on_average_and_not_in_the_median() -> None:
    ours, theirs = samples("ours", 0.01, 0.01, 0.01, 0.01), samples("peer", 0.01, 0.01, 0.01, 0.05)

    assert ratio(ours, theirs, lambda sample: sample.wall) == pytest.approx(1.0)
    assert mean_ratio(ours, theirs) == pytest.approx(0.5)


@pytest.mark.netns
@needs_peers
def test_a_small_run_fills_every_row() -> None:
    done = subprocess.run([*MEASURE, "--rounds", "1"], capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    named = {row[0].strip("| "): row[1] for row in rows[2:]}
    assert {"IPv4 ADD", "dual stack DEL", "masquerade ADD", "8 at once DEL", "STATUS", "VERSION", "python3 -IS -c pass"} <= named.keys()
    assert all(re.fullmatch(r"[\d.]+ ±0\.0 / [\d.]+ ±0\.0", cell) for cell in named.values()), named


@pytest.mark.netns
@needs_peers
def test_after_an_interruption_no_namespace_and_no_folder_is_left(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*MEASURE, "--rounds", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
        deadline = time.monotonic() + 60
        while not list(FOLDER.glob(f"ubench{process.pid}-*-pod7")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)  # in the middle of some request
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 130, errors
    assert not list(FOLDER.glob(f"ubench{process.pid}-*"))
    assert not list(tmp_path.iterdir())
