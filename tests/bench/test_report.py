"""The report as Markdown: medians and spreads, ours against the best peer, goals, what is missing and why; and its place in a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import report_command
from bench.document import Run, write
from bench.report import markdown
from bench.report_marks import number
from bench.report_tables import ratio
from tests.bench.example_run import CPU, RATE, WORKLOAD, run, whole_run

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = "# Figures\n\n<!-- bench: kept by a command -->\nA former report.\n<!-- end -->\n\nAfter it.\n"


@pytest.mark.parametrize(
    ("ours", "rate", "cpu"),
    [
        ([12.0, 12.0, 12.0], "1.20 +", "0.83 +"),
        ([8.0, 8.0, 8.0], "0.80 !", "1.25 !"),
        ([9.5, 10.1, 12.0], "1.01 =", "0.99 ="),
    ],
)
def test_ours_is_compared_with_the_best_peer_and_within_the_spread_it_is_a_tie(ours: list[float], rate: str, cpu: str) -> None:
    found = run(uproxy=ours, haproxy=[10.0, 10.0, 10.0], nginx=[7.0, 7.0, 7.0], none=[30.0, 30.0, 30.0])

    assert ratio(found, WORKLOAD, RATE).text == rate
    assert ratio(found, WORKLOAD, CPU).text == cpu


def test_a_row_has_medians_with_half_the_spread_the_best_peer_in_bold_and_the_ratio_at_its_end() -> None:
    text = markdown(run(uproxy=[9.0, 10.0, 14.0], haproxy=[8.0, 8.0, 8.0], nginx=[7.0, 7.0, 7.0], none=[30.0, 30.0, 30.0]))

    assert "| new connections, 50 at a time: connections | k/s | 10.0 ±2.5 | **8.00 ±0.00** | 7.00 ±0.00 | 30.0 ±0.0 | 1.25 = |" in text


def test_a_cell_without_a_value_is_empty_and_its_reason_is_told_once() -> None:
    text = markdown(whole_run())

    assert "| UDP <round trips> & answers: connections | k/s | 50.0 ±0.0 | - | **50.0 ±0.0** | 50.0 ±0.0 | 1.00 = |" in text
    assert text.count("HAProxy carries no UDP") == 1
    assert "HAProxy: HAProxy carries no UDP: UDP <round trips> & answers (IPv4); UDP <round trips> & answers (IPv6)." in text


def test_a_subject_that_cannot_run_has_no_column_and_says_why() -> None:
    found = run(uproxy=[10.0], nginx=[])
    found.subjects["nginx"].reason = "nginx has no stream module"

    text = markdown(found)

    assert "|  | unit | uproxy | ours : best peer |" in text
    assert "nginx stream: nginx has no stream module: all of its cells." in text


def test_goals_come_first_with_what_became_of_each() -> None:
    text = markdown(run(uproxy=[12.0], haproxy=[10.0], nginx=[7.0]))

    assert "2 of 2 reached, 0 within the spread of the bound, 0 missed." in text
    assert "| new connections, 50 at a time: connections | at least 1.1 of best peer | 1.20 of HAProxy: reached |" in text
    assert text.index("## Goals") < text.index("## Connections, IPv4")


def test_failures_a_busy_machine_and_an_interruption_are_told() -> None:
    found = run(uproxy=[10.0, 10.0], haproxy=[8.0])
    found.runs.append(Run("uproxy", WORKLOAD, 4, 2, {"rate": 9.0}, 9000, 3.0, failed=7, error="Connection refused", others=1.4))
    found.remarks.append("perf is not here")
    found.complete = False

    text = markdown(found)

    assert text.startswith("This run was interrupted")
    assert "During 1 of 4 measurements others used the CPUs too (marked ~): take no figure from those." in text
    assert "| 10.0 ±0.5 ~ |" in text
    assert "| 1.25 of HAProxy: reached ~ |" in text
    assert "uproxy, new connections, 50 at a time, IPv4, round 3: 7 failed beside 9000 (Connection refused)." in text
    assert "perf is not here" in text


def test_system_calls_are_counted_per_unit_and_rare_ones_left_out() -> None:
    text = markdown(whole_run())

    assert "system calls per connection" in text
    assert "| all | 3.25 |\n| epoll_ctl | 2.25 |\n| accept4 | 1.00 |\n" in text
    assert "futex" not in text


def test_other_measurements_have_their_tables_or_the_reason_why_not() -> None:
    text = markdown(whole_run())

    assert "## Control plane: Services from manifests\n\n|  | 1,000 | 10,000 |" in text
    assert "| start to all served, s | 0.80 | 4.50 |\n\n2 endpoints each." in text
    assert "## CNI plugins\n\nNot measured: there are no reference plugins." in text


def test_the_machine_and_all_versions_are_named() -> None:
    text = markdown(whole_run())

    assert "| processor | a processor |" in text
    assert "| nginx stream | proxy in user space | 1.0 |  |" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0123, "0.012"), (1.5, "1.50"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (-42.04, "-42.0")],
)
def test_numbers_have_three_digits_or_so(value: float, text: str) -> None:
    assert number(value) == text


def test_a_report_takes_its_place_in_a_document_as_often_as_one_likes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, kept = tmp_path / "page.md", tmp_path / "run.json"
    page.write_text(BLOCK)
    write(whole_run(), kept)

    assert [report_command.main([str(kept), "--into", str(page)]) for _ in range(2)] == [0, 0]

    text = page.read_text()
    assert text.startswith("# Figures\n\n<!-- bench: kept by a command -->\n\nMedians of 3 rounds")
    assert text.endswith("\n<!-- end -->\n\nAfter it.\n")
    assert text.count("### Connections, IPv4") == 1
    assert "A former report" not in text
    assert capsys.readouterr().out == ""


def test_a_report_is_printed_again_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(whole_run(), tmp_path / "run.json")

    assert report_command.main([str(tmp_path / "run.json")]) == 0

    assert capsys.readouterr().out == markdown(whole_run())


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "run.json: No such file or directory"), (b"{", "run.json: not a run"), (b"\xff\x00", "run.json: not a run")],
)
def test_a_file_that_is_no_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)

    assert report_command.main([str(tmp_path / "run.json")]) == 2

    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_document_without_a_place_for_the_report_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(whole_run(), tmp_path / "run.json")
    (tmp_path / "page.md").write_text("nothing")

    assert report_command.main([str(tmp_path / "run.json"), "--into", str(tmp_path / "page.md")]) == 2

    assert "page.md: there are no lines" in capsys.readouterr().err
    assert (tmp_path / "page.md").read_text() == "nothing"
