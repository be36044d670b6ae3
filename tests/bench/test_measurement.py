"""What a measurement takes from two readings of the kernel's counters, and how it notices that the proxy is gone."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from bench.measurement import Died, Spent, Watchdog, check_alive, others_of
from bench.processes import Cpus
from bench.subjects.base import Running

if TYPE_CHECKING:
    from pathlib import Path


def spent(own: float, busy: float, stolen: float = 0.0) -> Spent:
    return Spent(0.0, {}, own, Cpus(busy, stolen))


@pytest.mark.parametrize(
    ("before", "after", "others"),
    [
        pytest.param(spent(10.0, 100.0), spent(13.0, 103.0), 0.0, id="all of it was ours"),
        pytest.param(spent(10.0, 100.0), spent(13.0, 104.0), 0.5, id="a stranger used a CPU for half of the time"),
        pytest.param(spent(10.0, 100.0, 5.0), spent(13.0, 103.0, 6.0), 0.5, id="the hypervisor took one for half of the time"),
        pytest.param(spent(10.0, 100.0), spent(13.1, 103.0), 0.0, id="ticks do not fit exactly"),
    ],
)
def test_others_are_what_strangers_use_and_what_the_hypervisor_takes(before: Spent, after: Spent, others: float) -> None:
    assert others_of(before, after, 2.0) == pytest.approx(others)


def test_a_proxy_that_has_ended_is_told_by_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\nout of descriptors\n\n")
    with subprocess.Popen(["sh", "-c", "exit 3"], text=True) as process:
        process.wait()

    with pytest.raises(Died, match=r"^the proxy ended \(exit code 3\): out of descriptors$"):
        check_alive(Running({}, process, log))


def test_a_proxy_that_runs_and_none_at_all_are_alive() -> None:
    with subprocess.Popen(["sleep", "60"], text=True) as process:
        check_alive(Running({}, process))
        check_alive(Running({}))
        process.kill()


def test_a_load_does_not_outlive_its_proxy() -> None:
    sleep = ["sleep", "60"]
    with subprocess.Popen(sleep, text=True) as load, subprocess.Popen(sleep, text=True) as proxy, Watchdog(load, Running({}, proxy), 50.0):
        assert load.poll() is None
        proxy.kill()
        assert load.wait(timeout=10) == -9


def test_a_load_ends_at_its_limit_and_not_when_it_ended_by_itself() -> None:
    with subprocess.Popen(["sleep", "60"], text=True) as late, Watchdog(late, Running({}), limit=0.3):
        assert late.wait(timeout=10) == -9
    began = time.monotonic()
    with subprocess.Popen(["sleep", "0"], text=True) as punctual, Watchdog(punctual, Running({}), limit=50.0):
        assert punctual.wait(timeout=10) == 0
    assert time.monotonic() - began < 10
