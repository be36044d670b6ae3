"""Which cells are measured and in which order is decided from names alone."""

from __future__ import annotations

import pytest

from bench.matrix import Cell, everything, left_out, only
from bench.subjects import SUBJECTS
from bench.workloads import WORKLOADS

WHOLE = everything(["ours", "one", "other"], ["up", "request", "requests"], [4], ["scale", "cni"])


def order(number: int) -> list[str]:
    return [visit.subject for visit in WHOLE.visits(number)]


def test_each_round_visits_every_subject_once_with_another_one_first() -> None:
    assert [order(number) for number in range(4)] == [
        ["ours", "one", "other"],
        ["one", "other", "ours"],
        ["other", "ours", "one"],
        ["ours", "one", "other"],
    ]


def test_a_visit_does_every_workload_in_one_family_and_then_in_the_other() -> None:
    whole = everything(["ours"], ["up", "request"], [4, 6], [])

    [visit] = whole.visits(0)

    assert visit.cells == (Cell("ours", "up", 4), Cell("ours", "request", 4), Cell("ours", "up", 6), Cell("ours", "request", 6))


@pytest.mark.parametrize(
    ("patterns", "pairs", "sections"),
    [
        (["ours/up"], {("ours", "up")}, ()),
        (["o*e*/up"], {("one", "up"), ("other", "up")}, ()),
        (["*/request*"], {(subject, load) for subject in ("ours", "one", "other") for load in ("request", "requests")}, ()),
        (["one"], {("one", load) for load in ("up", "request", "requests")}, ()),
        (["request"], {(subject, "request") for subject in ("ours", "one", "other")}, ()),
        (["cni"], set(), ("cni",)),
        (["ours/up", "s*"], {("ours", "up")}, ("scale",)),
    ],
)
def test_only_keeps_what_a_pattern_names(patterns: list[str], pairs: set[tuple[str, str]], sections: tuple[str, ...]) -> None:
    kept = only(WHOLE, patterns)

    assert kept.pairs == pairs
    assert kept.sections == sections


def test_a_report_of_some_cells_has_no_other_subjects_and_workloads_and_keeps_their_order() -> None:
    kept = only(WHOLE, ["other/requests", "ours/up"])

    assert (kept.subjects, kept.workloads) == (("ours", "other"), ("up", "requests"))
    assert [visit.cells for visit in kept.visits(0)] == [(Cell("ours", "up", 4),), (Cell("other", "requests", 4),)]


@pytest.mark.parametrize("pattern", ["envoy", "one/down", "on", "scale/up"])
def test_a_pattern_that_names_nothing_is_refused_with_all_that_is_known(pattern: str) -> None:
    with pytest.raises(ValueError, match=f"{pattern} is none of subjects ours, one, other; workloads up, .*; sections scale, cni$"):
        only(WHOLE, ["ours", pattern])


def test_udp_through_what_carries_none_is_left_out_and_stays_a_cell_of_the_report() -> None:
    whole = everything(["uproxy", "haproxy"], ["requests", "datagrams"], [4, 6], [])

    empty = left_out(whole, SUBJECTS, WORKLOADS)
    kept = whole.without(empty)

    assert [(cell.subject, cell.workload, cell.family, cell.reason) for cell in empty] == [
        ("haproxy", "datagrams", 4, "carries no UDP"),
        ("haproxy", "datagrams", 6, "carries no UDP"),
    ]
    assert kept.cells("haproxy") == (Cell("haproxy", "requests", 4), Cell("haproxy", "requests", 6))
    assert len(kept.cells("uproxy")) == 4
    assert kept.workloads == ("requests", "datagrams")


def test_sections_alone_visit_nobody() -> None:
    assert list(only(WHOLE, ["scale"]).visits(3)) == []
