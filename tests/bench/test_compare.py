"""Two runs next to each other: what is better, worse or a tie, what makes them incomparable, and the exit code."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from bench import compare
from bench.document import write
from tests.bench.example_run import run, whole_run

if TYPE_CHECKING:
    from pathlib import Path

    from bench.document import Document


def compared(tmp_path: Path, before: Document, after: Document, *flags: str) -> int:
    write(before, tmp_path / "a.json")
    write(after, tmp_path / "b.json")
    return compare.main([str(tmp_path / "a.json"), str(tmp_path / "b.json"), *flags])


def test_every_cell_has_its_change_and_within_the_spread_it_is_a_tie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = run(uproxy=[10.0, 10.0, 10.0], haproxy=[10.0, 10.0, 10.0], none=[30.0, 30.0, 30.0])
    after = run(uproxy=[12.0, 12.0, 12.0], haproxy=[9.0, 9.5, 11.0], none=[20.0, 20.0, 20.0])

    assert compared(tmp_path, before, after) == 0

    said = capsys.readouterr().out
    rate = "10.0 -> 12.0 +20.0 % + | 10.0 -> 9.50 -5.0 % = | 30.0 -> 20.0 -33.3 % !"
    assert f"| new connections, 50 at a time: connections | k/s | {rate} |" in said
    assert "| 50.0 -> 41.7 -16.7 % + | 50.0 -> 52.6 +5.3 % = | - |" in said
    assert "uproxy: 2 better, 0 worse, 0 ties. Others: 0 better, 1 worse, 2 ties." in said
    assert "Not the same" not in said


def test_what_makes_two_runs_incomparable_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = run(uproxy=[10.0], haproxy=[10.0]), run(uproxy=[10.0], nginx=[9.0])
    after.machine = {"processor": "another one", "cpus": 2}
    after.seconds, after.families = 1.0, [4, 6]
    after.subjects["uproxy"].version = "2.0"

    assert compared(tmp_path, before, after) == 0

    said = capsys.readouterr().out
    assert "Not the same: processor: a processor in the first, another one in the second." in said
    assert "Not the same: seconds of a measurement: 3.0 in the first, 1.0 in the second." in said
    assert "Not the same: families: 4 in the first, 4, 6 in the second." in said
    assert "Not the same: version of uproxy: 1.0 in the first, 2.0 in the second." in said
    assert "Not the same: subjects that only one of them has: haproxy in the first, nginx in the second." in said


@pytest.mark.parametrize(
    ("subject", "percent", "code"), [("uproxy", "10", 1), ("uproxy", "30", 0), ("uproxy-asyncio", "10", 1), ("haproxy", "10", 0)]
)
def test_only_ours_getting_worse_by_more_than_allowed_is_a_failure(tmp_path: Path, subject: str, percent: str, code: int) -> None:
    before, after = run(**{subject: [10.0, 10.0]}), run(**{subject: [8.0, 8.0]})

    assert compared(tmp_path, before, after, "--fail-if-worse", percent) == code


def test_a_difference_within_the_spread_is_no_failure(tmp_path: Path) -> None:
    assert compared(tmp_path, run(uproxy=[7.0, 10.0, 13.0]), run(uproxy=[6.0, 8.0, 12.0]), "--fail-if-worse", "1") == 0


def test_the_failure_names_the_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compared(tmp_path, run(uproxy=[10.0]), run(uproxy=[8.0]), "--fail-if-worse", "21")

    said = capsys.readouterr().err
    assert said == (
        "bench compare: worse by more than 21 %: uproxy, new connections, 50 at a time, IPv4: CPU per connection: 50.0 -> 62.5 +25.0 % !\n"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "b.json: No such file or directory"), (b"[1]", "b.json: not a run"), (b"\xff", "b.json: not a run")],
)
def test_a_file_that_is_no_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    write(run(uproxy=[10.0]), tmp_path / "a.json")
    if content is not None:
        (tmp_path / "b.json").write_bytes(content)

    assert compare.main([str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2

    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_the_page_of_a_comparison_is_well_formed_and_has_the_same_cells(tmp_path: Path) -> None:
    assert compared(tmp_path, whole_run(), whole_run(), "--html", str(tmp_path / "page.html")) == 0

    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    root = ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))  # noqa: S314 - our own page
    cells = ["".join(cell.itertext()) for cell in root.iter("td")]
    assert "10.0 -> 10.0 +0.0 % =" in cells
    assert "UDP <round trips> & answers: p99.9" in cells


def test_runs_that_share_nothing_have_a_summary_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(tmp_path, run(uproxy=[10.0]), run(nginx=[10.0])) == 0

    assert "uproxy: 0 better, 0 worse, 0 ties. Others: 0 better, 0 worse, 0 ties." in capsys.readouterr().out
