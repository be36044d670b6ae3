"""The comparison's table: medians, spreads, and ours against the best peer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench import results as results_module
from bench.report import markdown, ratio
from bench.results import Record, Results
from bench.workloads import WORKLOADS, Sample

if TYPE_CHECKING:
    from pathlib import Path

RATE, CPU = WORKLOADS["connections"].figures


def results(**units: list[int]) -> Results:
    """Give results in which each subject made so many connections in a second, with 0.5 s of CPU."""
    found = Results(seconds=1.0, rounds=3)
    for subject, rounds in units.items():
        for number, count in enumerate(rounds):
            found.records.append(Record(subject, "connections", number, Sample(count, 1.0, 0, 0.0, 0.0, "", 0.5)))
    return found


def test_a_value_is_the_median_and_half_the_distance_of_the_extremes() -> None:
    value = results(uproxy=[9000, 10000, 14000]).value("uproxy", "connections", RATE)

    assert value == (10.0, 2.5)


@pytest.mark.parametrize(
    ("ours", "rate", "cpu"),
    [
        ([12000, 12000, 12000], "1.20 +", "0.83 +"),
        ([8000, 8000, 8000], "0.80 !", "1.25 !"),
        ([9500, 10100, 12000], "1.01 =", "0.99 ="),
    ],
)
def test_ours_is_compared_with_the_best_peer_and_within_the_spread_it_is_a_tie(ours: list[int], rate: str, cpu: str) -> None:
    found = results(uproxy=ours, haproxy=[10000, 10000, 10000], nginx=[7000, 7000, 7000], none=[30000, 30000, 30000])

    assert ratio(found, "connections", RATE) == rate
    assert ratio(found, "connections", CPU) == cpu


def test_the_table_has_an_empty_cell_and_the_reason_for_a_subject_that_cannot_run() -> None:
    found = results(uproxy=[10000])
    found.reasons["nginx"] = "nginx has no stream module"

    text = markdown(found, ["uproxy", "nginx"], ["connections"])

    assert "| new connections | k/s | 10.0 ±0.0 | - | - |" in text
    assert "nginx stream: nginx has no stream module." in text


def test_failures_and_a_busy_machine_are_told() -> None:
    found = results(uproxy=[10000])
    found.records.append(Record("uproxy", "connections", 1, Sample(9000, 1.0, 7, 0.0, 0.0, "Connection refused", 0.5)))
    found.records.append(Record("uproxy", "connections", 2, Sample(9000, 1.0, 0, 0.0, 0.0, "", 0.5, others=1.4)))

    text = markdown(found, ["uproxy"], ["connections"])

    assert "uproxy, new connections, 50 at a time, round 2: 7 failed beside 9000 (Connection refused)." in text
    assert "During 1 of 3 measurements others used the CPUs too" in text


def test_raw_runs_are_kept_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "FOLDER", tmp_path)

    document = json.loads(results(uproxy=[10000, 11000]).save().read_text())

    assert [run["sample"]["units"] for run in document["runs"]] == [10000, 11000]
    assert document["machine"]["cpus"] >= 1
