"""Which goals a run reaches: against the best peer, against one subject, and in itself."""

from __future__ import annotations

import pytest

from bench.document import Document, FigureInfo, Run, SubjectInfo, WorkloadInfo
from bench.goals import GOALS, Goal, Relation, Verdict, figure_of, judge
from bench.workloads import WORKLOADS
from tests.bench.example_run import WORKLOAD, run

AT_LEAST = Goal(WORKLOAD, "rate", Relation.AT_LEAST, 1.1)
AT_MOST = Goal(WORKLOAD, "cpu", Relation.AT_MOST, 0.9)
IDLE = {"bytes": 1500.0, "descriptors": 2.0, "resident": 40.0}


def idle_run(**subjects: dict[str, float]) -> Document:
    figures = [FigureInfo(key, key, "", higher_is_better=False) for key in IDLE]
    infos = {name: SubjectInfo(name, "ours" if name == "uproxy" else "peer") for name in subjects}
    found = Document("", {}, 1.0, 1, [4], infos, {"idle": WorkloadInfo("idle connections", "idle", figures)})
    found.runs = [Run(name, "idle", 4, 0, values, 9000, 1.0) for name, values in subjects.items()]
    return found


def test_every_goal_is_about_a_workload_and_a_figure_that_the_suite_measures() -> None:
    figures = {(name, figure.key) for name, workload in WORKLOADS.items() for figure in workload.figures}
    assert [goal for goal in GOALS if (goal.workload, goal.figure) not in figures] == []


@pytest.mark.parametrize(
    ("ours", "rate", "cpu"),
    [
        ([12.0, 12.0, 12.0], Verdict.REACHED, Verdict.REACHED),
        ([10.5, 10.5, 10.5], Verdict.MISSED, Verdict.MISSED),
        ([10.0, 10.9, 12.0], Verdict.TIE, Verdict.TIE),
    ],
)
def test_a_bound_within_the_spread_is_a_tie(ours: list[float], rate: Verdict, cpu: Verdict) -> None:
    found = run(uproxy=ours, haproxy=[10.0, 10.0, 10.0], nginx=[7.0, 7.0, 7.0], none=[30.0, 30.0, 30.0])

    assert judge(AT_LEAST, found, 4).verdict is rate
    assert judge(AT_MOST, found, 4).verdict is cpu


def test_the_best_peer_of_a_row_is_the_measure_and_kernel_modes_are_not() -> None:
    found = run(uproxy=[12.0], haproxy=[10.0], nginx=[7.0], none=[30.0])

    outcome = judge(AT_LEAST, found, 4)

    assert outcome.against == "haproxy"
    assert outcome.ratio == pytest.approx(1.2)


def test_what_was_not_measured_has_no_verdict() -> None:
    found = run(uproxy=[12.0])

    assert judge(AT_LEAST, found, 4).verdict is Verdict.UNKNOWN
    assert judge(AT_LEAST, run(uproxy=[12.0], nginx=[9.0]), 6).verdict is Verdict.UNKNOWN
    assert judge(Goal("idle", "bytes", Relation.AT_MOST, 2000, ""), found, 4).verdict is Verdict.UNKNOWN
    assert figure_of(Goal(WORKLOAD, "p50", Relation.AT_MOST, 1.0), found) is None


@pytest.mark.parametrize(
    ("ours", "verdicts"),
    [
        ({}, [Verdict.REACHED, Verdict.REACHED, Verdict.REACHED]),
        ({"bytes": 2001.0, "descriptors": 3.0, "resident": 41.5}, [Verdict.MISSED, Verdict.MISSED, Verdict.MISSED]),
    ],
)
def test_an_idle_connection_is_judged_in_itself_and_the_process_against_nginx(ours: dict[str, float], verdicts: list[Verdict]) -> None:
    found = idle_run(uproxy={**IDLE, **ours}, nginx={"resident": 41.0}, haproxy={"resident": 1.0})

    assert [judge(goal, found, 4).verdict for goal in GOALS if goal.workload == "idle"] == verdicts
