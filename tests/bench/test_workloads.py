"""Every workload goes through a real network of both families, and its figures follow from what happened."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import measurement
from bench.figures import Sample, latency, loss, rate, throughput
from bench.measurement import Failed, load_server
from bench.processes import Memory
from bench.subjects import SUBJECTS
from bench.subjects.base import Running
from bench.topology import FAMILIES, SERVER, Topology
from bench.workloads import WORKLOADS, changes
from bench.workloads.base import CannotCarry, Site
from bench.workloads.half_load import HalfLoad
from bench.workloads.idle import Holdings, Idle, as_many_as_allowed, costs, holdings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.figures import Figure

OURS = [name for name in WORKLOADS if name not in changes.WORKLOADS]
OF_A_PROXY = {"cpu", "switches"}


@pytest.fixture(scope="module")
def routed() -> Iterator[Site]:
    """Let the node route, without a proxy."""
    with Topology() as topology, load_server(topology):
        yield Site(topology, Running(SERVER), 4, seconds=0.2, warm_up=0.1)


def values(figures: tuple[Figure, ...], sample: Sample) -> dict[str, float]:
    return {figure.key: value for figure in figures if (value := figure.of(sample)) is not None}


@pytest.mark.netns
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [name for name in OURS if name != "idle"])
def test_every_workload_gives_all_its_figures_in_both_families(routed: Site, name: str, family: int) -> None:
    workload = WORKLOADS[name]

    sample = workload.measure(replace(routed, family=family))

    assert sample.units > 0
    assert (sample.failed, sample.error) == (0, "")
    assert {figure.key for figure in workload.figures} - OF_A_PROXY == set(values(workload.figures, sample)) - OF_A_PROXY


@pytest.mark.netns
def test_a_workload_without_a_server_says_so(routed: Site) -> None:
    nobody = replace(routed, running=Running({4: "10.77.1.1"}))

    with pytest.raises(Failed, match="Connection refused"):
        WORKLOADS["requests"].measure(nobody)


@pytest.mark.netns
def test_idle_connections_are_told_by_the_descriptors_of_the_proxy(tmp_path: Path) -> None:
    with Topology() as topology, load_server(topology):
        running = SUBJECTS["uproxy"].start(topology, tmp_path)
        assert running.process
        try:
            sample = Idle(200).measure(Site(topology, running, 4, seconds=0.4, warm_up=0.1))
            left = holdings(running.process.pid).descriptors
            again = Idle(200).measure(Site(topology, running, 6, seconds=0.4, warm_up=0.1))
        finally:
            running.stop()

    for each in (sample, again):
        assert (each.units, each.failed) == (200, 0)
        assert each.extra["held"] == 200
        assert 1.9 <= each.extra["descriptors"] <= 2.1
        assert 10 < each.extra["resident"] < 500
    assert left < 220


@pytest.mark.netns
def test_idle_connections_need_a_proxy(routed: Site) -> None:
    with pytest.raises(CannotCarry, match="no proxy"):
        WORKLOADS["idle"].measure(routed)


@pytest.mark.netns
def test_half_of_the_load_is_half_of_what_was_reached_before(routed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, Sample, tuple[str, ...]]] = []

    def noting(site: Site, kind: str, port: int, *flags: str) -> Sample:
        made.append((kind, measurement.generate(site, kind, port, *flags), flags))
        return made[-1][1]

    monkeypatch.setattr("bench.workloads.half_load.generate", noting)

    sample = HalfLoad().measure(routed)

    (_, most, _), (kind, paced, flags) = made
    assert kind == "paced"
    offered = float(flags[flags.index("--rate") + 1])
    assert offered == pytest.approx(most.units / most.seconds / 2)
    assert paced.units / paced.seconds == pytest.approx(offered, rel=0.15)
    assert sample.units == paced.units


def test_what_a_process_holds_is_counted_over_its_children() -> None:
    files, block = "[os.open('/dev/null', 0) for _ in range(30)]", "bytes(range(256)) * 80_000"
    child = f"import os\nfiles = {files}\nblock = {block}\nprint('there', flush=True)\ninput()\n"
    parent = f"import subprocess, sys\nprocess = subprocess.Popen([sys.executable, '-c', {child!r}])\nprocess.wait()\n"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            found = holdings(process.pid)
            own = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        finally:
            process.communicate("\n")

    assert found.descriptors == own + 3 + 30
    assert found.memory.anonymous > 20_000_000


def test_costs_are_what_came_on_top_for_each_connection_that_is_held() -> None:
    before = Holdings(Memory(20_000_000, 15_000_000, 10_000_000), 30)
    now = Holdings(Memory(24_000_000, 18_000_000, 13_000_000), 4031)

    found = costs(before, now, 2000)

    assert found == {"bytes": 2000, "anonymous": 1500, "descriptors": 2.0, "resident": 24.0, "held": 2000}


def test_without_connections_there_are_no_costs() -> None:
    nothing = Holdings(Memory(0, 0, 0), 0)

    assert costs(nothing, nothing, 0) == {}


@pytest.mark.parametrize(
    ("limit", "expected"), [(1_000_000, 10_000), (21_001, 10_000), (20_000, 9_000), (4_096, 1_000), (1_500, 250), (1_024, 12), (256, 1)]
)
def test_idle_connections_are_as_many_as_the_descriptors_allow(limit: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.workloads.idle.descriptors", lambda: limit)

    assert as_many_as_allowed() == expected


def test_figures_follow_from_the_sample() -> None:
    sample = Sample(3_000_000, 3.0, p50=10.0, p99=20.0, p999=30.0, lost=1_000_000, cpu=1.5, switches=6000)

    assert values(throughput(), sample) == pytest.approx({"rate": 0.008, "cpu": 500_000, "switches": 2_000_000})
    assert values(rate("request"), sample) == pytest.approx({"rate": 1000, "cpu": 0.5, "switches": 0.002})
    assert values(latency(), sample) == {"p50": 10.0, "p99": 20.0, "p999": 30.0}
    assert values(loss(), sample) == {"lost": 25.0}


def test_what_was_not_measured_has_no_figure() -> None:
    nothing = Sample(0, 3.0)

    assert values(latency() + loss(), nothing) == {}
    assert values(rate("request"), nothing) == {"rate": 0}


def test_keys_are_unique_within_a_workload_and_quick_ones_are_few() -> None:
    for workload in WORKLOADS.values():
        keys = [figure.key for figure in workload.figures]
        assert len(set(keys)) == len(keys)
    assert [name for name in OURS if WORKLOADS[name].quick] == ["up", "down", "requests", "request", "connections", "datagrams"]
